/** A small seeded generator (mulberry32): the same seed gives the same run. */
export class Rng {
  constructor(private state: number) {
    this.state = Math.imul(state + 1, 0x9e3779b9) ^ 0x5851f42d;
  }
  next(): number {
    let t = (this.state = (this.state + 0x6d2b79f5) | 0);
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
  /** Below `bound`. */
  below(bound: number): number {
    return this.next() % Math.max(bound, 1);
  }
  /** From `low` to `high`, both included. */
  range(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }
  /** True so many times in a thousand. */
  chance(perMille: number): boolean {
    return this.below(1000) < perMille;
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
  word(length: number): string {
    return Array.from({ length }, () => "ABCDEFGHIJKLMNOP"[this.below(16)]).join("");
  }
}

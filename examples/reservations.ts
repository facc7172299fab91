// Made from the Rust types: do not edit.

/**
 * What a client asks.
 */
export type Ask = { "type": "free" } | { "type": "reserve",
/**
 * Which.
 */
seats: Party, } | { "type": "release",
/**
 * Which.
 */
seats: Party, };

/**
 * What is said to all who watch.
 */
export type Change = { "type": "taken",
/**
 * Which.
 */
seats: Party, } | { "type": "freed",
/**
 * Which.
 */
seats: Party, };

/**
 * One to four different seats.
 */
export type Party = Array<Seat>;

/**
 * A seat that there is: no other number is ever a `Seat`.
 */
export type Seat = number;

/**
 * What it is answered.
 */
export type Tell = { "type": "free",
/**
 * In order.
 */
seats: Array<Seat>, } | { "type": "reserved",
/**
 * As asked.
 */
seats: Party, } | { "type": "released",
/**
 * As asked.
 */
seats: Party, };

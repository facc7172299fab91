//! The TypeScript types that are checked in are those of the Rust types.

#![expect(dead_code, unreachable_pub, reason = "types are here for what they become, and no main is called")]

#[path = "../examples/reservations.rs"]
mod reservations;

use throughline::ts::{Declarations, TS, TsError};

#[test]
fn the_types_of_the_reservations_are_current() {
    let current = reservations::types().unwrap();
    let kept = include_str!("../examples/reservations.ts");
    assert_eq!(
        kept, current,
        "cargo run --example reservations --features ts -- types > examples/reservations.ts"
    );
}

mod ours {
    /// A point.
    #[derive(throughline::ts::TS)]
    #[ts(crate = "throughline::ts::ts_rs")]
    pub struct Point {
        pub x: u64,
        pub names: Vec<super::Pair<String>>,
        pub more: super::Pair<u8>,
    }
}

mod theirs {
    #[derive(throughline::ts::TS)]
    #[ts(crate = "throughline::ts::ts_rs")]
    pub struct Point {
        pub y: f64,
    }
}

/// Of a generic type there is one declaration.
#[derive(Debug, TS)]
#[ts(crate = "throughline::ts::ts_rs")]
pub struct Pair<T> {
    left: T,
    right: Option<T>,
}

#[test]
fn a_file_holds_what_a_type_is_made_of_once() {
    let file = Declarations::new().with::<ours::Point>().with::<Pair<bool>>().file().unwrap();
    let expected = "// Made from the Rust types: do not edit.\n\
        \n/**\n * Of a generic type there is one declaration.\n */\nexport type Pair<T> = { left: T, right: T | null, };\n\
        \n/**\n * A point.\n */\nexport type Point = { x: number, names: Array<Pair<string>>, more: Pair<number>, };\n";
    assert_eq!(file, expected);
    let other_order = Declarations::new().with::<Pair<bool>>().with::<ours::Point>().with::<ours::Point>();
    assert_eq!(other_order.file().unwrap(), expected);
}

#[test]
fn two_types_of_one_name_are_refused() {
    let file = Declarations::new().with::<ours::Point>().with::<theirs::Point>().file();
    assert!(matches!(file, Err(TsError::TwoOfOneName { name }) if name == "Point"));
}

//! TypeScript types of the Rust types of a protocol, in one file: what the browser client's generics are given.
//!
//! It owns the file: which types are in it, in which order, under which names. What a type looks like in TypeScript is
//! the affair of [`ts_rs`], whose derive reads serde's attributes; the derive finds its way here by
//! `#[ts(crate = "throughline::ts::ts_rs")]`, or to a `ts-rs` of your own of the same version.
//!
//! The file belongs in the repository, and a test that compares it with [`Declarations::file`] keeps it true: see
//! `examples/reservations.rs` and `tests/typescript.rs`.

use std::any::TypeId;
use std::collections::{BTreeMap, HashSet};

use ts_rs::{Config, TypeVisitor};

pub use ts_rs::{self, TS};

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TsError {
    /// Two types have the same name; `#[ts(rename = "…")]` gives one of them another.
    #[error("two types are called {name}")]
    TwoOfOneName {
        /// The name.
        name: String,
    },
}

/// The types of a protocol.
///
/// Integers of 64 bits and more are `number` here, as a browser reads them in JSON: beyond 2^53 they lose digits.
///
/// ```
/// use throughline::ts::{Declarations, TS};
///
/// /// What is said.
/// #[derive(serde::Serialize, TS)]
/// #[ts(crate = "throughline::ts::ts_rs")]
/// struct Said { text: String, at: u64 }
///
/// let file = Declarations::new().with::<Said>().file().unwrap();
/// assert!(file.contains("export type Said = { text: string, at: number, };"));
/// ```
pub struct Declarations {
    config: Config,
    seen: HashSet<TypeId>,
    by_name: BTreeMap<String, String>,
    twice: Option<String>,
}

impl std::fmt::Debug for Declarations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declarations").field("names", &self.by_name.keys()).finish_non_exhaustive()
    }
}

impl Default for Declarations {
    fn default() -> Self {
        Self::new()
    }
}

impl Declarations {
    /// None yet.
    pub fn new() -> Self {
        let config = Config::new().with_large_int("number");
        Self { config, seen: HashSet::new(), by_name: BTreeMap::new(), twice: None }
    }

    /// With this type, and all that it is made of.
    #[must_use]
    pub fn with<T: TS + 'static + ?Sized>(mut self) -> Self {
        self.visit::<T>();
        self
    }

    /// The file, which any order of [`with`](Self::with) makes the same.
    ///
    /// # Errors
    /// When two types have the same name.
    pub fn file(&self) -> Result<String, TsError> {
        if let Some(name) = self.twice.clone() {
            return Err(TsError::TwoOfOneName { name });
        }
        let declarations = self.by_name.values().map(|declaration| format!("\n{declaration}"));
        Ok(std::iter::once("// Made from the Rust types: do not edit.\n".to_owned())
            .chain(declarations)
            .collect())
    }
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if !self.seen.insert(TypeId::of::<T>()) {
            return;
        }
        // Numbers, lists and their like have no file in which they stand, and no declaration.
        if T::output_path().is_some() {
            let name = T::ident(&self.config);
            let docs = T::docs().unwrap_or_default();
            let declaration = format!("{docs}export {}\n", T::decl(&self.config));
            let declaration: String = declaration.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
            let other = self.by_name.insert(name.clone(), declaration.clone());
            // Of a generic type each use is a type, with one declaration.
            if other.is_some_and(|other| other != declaration) {
                self.twice = Some(name);
            }
        }
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

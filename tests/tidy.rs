//! The walls of the house, held by a test: which room may import which, how large a file may grow, what no file
//! may be called, and that code and `docs/PROTOCOL.md` speak of the same sections and rules.
//!
//! The laws are about what ships. Test modules (`#[cfg(test)] mod …`, in the file or in one of their own) may
//! import any room: a test may need more than what it tests. All else is read as text, with comments, doc comments
//! and literals blanked out, so that a link to another room in a doc comment is no import, and neither is the
//! `crate::…` of `pub(in crate::…)`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms it may import. `docs/ARCHITECTURE.md` shows the same table.
const ROOMS: [(&str, &[&str]); 11] = [
    ("frame", &[]),
    ("session", &["frame"]),
    ("room", &["frame"]),
    ("transport", &["frame"]),
    ("backplane", &[]),
    ("socket", &["frame", "session", "transport"]),
    ("hub", &["frame", "room", "backplane", "socket"]),
    ("server", &["frame", "session", "transport", "socket", "hub"]),
    ("client", &["frame", "session", "room", "transport", "socket"]),
    ("testing", &[]),
    ("ts", &[]),
];

/// The most lines of a file before its tests.
const MAX_LINES: usize = 600;

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "helper", "helpers", "misc", "types", "manager", "stuff"];

/// The folders with Rust files.
const TREES: [&str; 5] = ["src", "tests", "examples", "benches", "fuzz"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder, by their paths from the repository's root.
fn files_below(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // What is built, and what fuzzing leaves, is nobody's work.
            let built = ["target", "artifacts", "coverage", "corpus"].contains(&name.as_str());
            if entry.is_dir() && !built && !name.starts_with('.') {
                walk(&entry, found);
            } else if entry.is_file() {
                found.push(entry.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found
}

fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let files = files_below(folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files.map(|path| (path.clone(), read(&root().join(&path)))).collect()
}

/// The source with comments and the insides of literals replaced by spaces: lines and columns stay.
fn code_of(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let blank = |code: &mut [u8], from: usize, to: usize| {
        let to = to.min(code.len());
        code[from.min(to)..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !after_word) {
            at + length
        } else if rest[0] == b'"' {
            at + quoted(rest, b'"')
        } else if rest[0] == b'\'' && is_char(rest) {
            at + quoted(rest, b'\'')
        } else {
            at += 1;
            continue;
        };
        blank(&mut code, at, end);
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a raw string (`r"…"`, `br#"…"#`) that begins here.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = if rest.starts_with(b"br") { 2 } else { usize::from(rest.starts_with(b"r")) };
    let hashes = rest.get(prefix..)?.iter().take_while(|&&byte| byte == b'#').count();
    let begin = prefix + hashes + 1;
    if prefix == 0 || rest.get(begin - 1) != Some(&b'"') {
        return None;
    }
    let closing = [vec![b'"'], vec![b'#'; hashes]].concat();
    let inner = rest[begin..].windows(closing.len()).position(|window| window == closing);
    Some(inner.map_or(rest.len(), |inner| begin + inner + closing.len()))
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Whether a quote begins a character and not a lifetime.
fn is_char(rest: &[u8]) -> bool {
    rest.get(1) == Some(&b'\\')
        || std::str::from_utf8(rest)
            .ok()
            .and_then(|text| text[1..].chars().next())
            .is_some_and(|character| rest.get(1 + character.len_utf8()) == Some(&b'\''))
}

/// The code with the bodies of `#[cfg(test)] mod … { … }` blanked, and the names of `#[cfg(test)] mod …;`.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut code, mut names) = (code.to_owned(), Vec::new());
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let after = from + found + "#[cfg(test)]".len();
        from = after;
        let behind = code[after..].trim_start();
        let item = ["pub(crate) mod ", "pub(super) mod ", "pub mod ", "mod "]
            .iter()
            .find_map(|prefix| behind.strip_prefix(prefix));
        let Some(item) = item else { continue };
        let name: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let begin = code.len() - item.len() + name.len();
        if code[begin..].trim_start().starts_with(';') {
            names.push(name);
            continue;
        }
        let (mut depth, mut end) = (0_usize, code.len());
        for (at, byte) in code[begin..].bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => {
                    end = begin + at;
                    break;
                }
                b'}' => depth -= 1,
                _ => {}
            }
        }
        let blanked: String = code[begin..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(begin..end, &blanked);
        from = begin;
    }
    (code, names)
}

/// What a path names right behind the crate's root, with its line: `crate::x::y`, `crate::{x::y, z}`, and
/// `super::` chains that reach the root of a file `depth` modules below it.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut names = |at: usize, behind: &str| {
        let line = code[..at].lines().count().max(1);
        found.extend(first_names(behind).into_iter().map(|name| (line, name)));
    };
    for (at, _) in code.match_indices("crate::") {
        let before = &code[..at];
        let inside_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if !inside_word && !before.ends_with("in ") {
            names(at, &code[at + "crate::".len()..]);
        }
    }
    let climb = "super::".repeat(depth.max(1));
    for (at, _) in code.match_indices(&climb) {
        if !code[..at].ends_with("super::") && !code[..at].ends_with("in ") {
            names(at, code[at + climb.len()..].trim_start_matches("super::"));
        }
    }
    found
}

/// The first name of a path, or of each path in a group.
fn first_names(behind: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '*').collect()
    };
    let Some(group) = behind.strip_prefix('{') else { return vec![name(behind)] };
    let (mut depth, mut names, mut part) = (0_usize, Vec::new(), String::new());
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.push(name(&std::mem::take(&mut part))),
            _ => {
                depth = depth + usize::from(character == '{') - usize::from(character == '}');
                part.push(character);
            }
        }
    }
    names.push(name(&part));
    names.retain(|name| !name.is_empty());
    names
}

/// Which room a source file is in, and how many modules below the root it is.
fn place(path: &Path) -> Option<(String, usize)> {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let inside = parts.strip_prefix(&["src".to_owned()])?;
    let room = inside.first()?.trim_end_matches(".rs").to_owned();
    let depth = inside.len() - usize::from(inside.last().is_some_and(|name| name == "mod.rs"));
    Some((room, depth))
}

/// What a source file of a room breaks.
fn faults_of_source(path: &Path, source: &str) -> Vec<String> {
    let shown = path.display();
    let Some((room, depth)) = place(path) else { return vec![format!("{shown}: not in src")] };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{shown}: {room} is no room of the table in tests/tidy.rs")];
    };
    let (code, _) = without_tests(&code_of(source));
    let mut faults = Vec::new();
    for (line, name) in imports(&code, depth) {
        if name == room || allowed.contains(&name.as_str()) {
            continue;
        }
        faults.push(if ROOMS.iter().any(|(other, _)| *other == name) {
            format!("{shown}:{line}: {room} may not import {name}")
        } else {
            format!("{shown}:{line}: crate::{name} is no room: import it from the room it lives in")
        });
    }
    faults
}

/// How many lines a file has before its tests.
fn lines_before_tests(source: &str) -> usize {
    let code = code_of(source);
    let end = code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let behind = code[at + "#[cfg(test)]".len()..].trim_start();
        behind.starts_with("mod ") && behind.find(['{', ';']).is_some_and(|at| behind[at..].starts_with('{'))
    });
    code[..end.unwrap_or(code.len())].lines().count()
}

/// The files and folders that hold nothing but test modules, by what their parents declare.
fn is_test_file(path: &Path, test_modules: &BTreeSet<PathBuf>) -> bool {
    test_modules.iter().any(|module| path.starts_with(module) || path == module.with_extension("rs"))
}

fn test_modules(files: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let declared = files.iter().flat_map(|(path, source)| {
        let stem = path.file_stem().unwrap_or_default();
        let is_door = stem == "mod" || stem == "lib";
        let folder = if is_door { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        let (_, names) = without_tests(&code_of(source));
        names.into_iter().map(move |name| folder.join(name))
    });
    declared.collect()
}

/// What stands in code that nobody is to leave there.
fn leftovers(code: &str) -> Vec<(usize, &'static str)> {
    let words = ["#[ignore", "todo!", "unimplemented!", "dbg!"];
    words
        .into_iter()
        .flat_map(|word| code.match_indices(word).map(move |(at, _)| (at, word)))
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, word)| (code[..at].lines().count().max(1), word))
        .collect()
}

/// The rooms that `lib.rs` declares.
fn declared_rooms(lib: &str) -> BTreeSet<String> {
    let (code, tests) = without_tests(&code_of(lib));
    let lines =
        code.lines().map(|line| line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub "));
    let names = lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned));
    names.filter(|name| !tests.contains(name)).collect()
}

/// The headings, and the rules in bold brackets, of a document.
fn anchors(document: &str) -> (BTreeSet<String>, Vec<String>) {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| {
        let title = line.trim_start_matches('#').trim();
        title.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim().to_owned()
    });
    let rules = document.split("**[").skip(1).filter_map(|part| Some(part.split_once("]**")?.0.to_owned()));
    (headings.collect(), rules.collect())
}

/// What a source says of the protocol's document: quoted sections and bracketed rules on the lines that name it.
fn references(source: &str) -> (Vec<String>, Vec<String>) {
    let (mut sections, mut rules) = (Vec::new(), Vec::new());
    // A sentence may run over the end of a comment's line.
    let text: String = source
        .lines()
        .map(|line| line.trim_start().trim_start_matches(['/', '!']).trim_start())
        .collect::<Vec<_>>()
        .join(" ");
    for part in text.split("docs/PROTOCOL.md`").skip(1) {
        let mut rest = part;
        while let Some(behind) = [", \"", " and \"", "; \""].iter().find_map(|lead| rest.strip_prefix(lead)) {
            let Some((section, after)) = behind.split_once('"') else { break };
            sections.push(section.to_owned());
            rest = after;
        }
        let sentence = part.split(". ").next().unwrap_or_default();
        rules.extend(sentence.split('[').skip(1).filter_map(|part| {
            let name = part.split_once(']')?.0;
            let (letter, digits) = name.split_at_checked(1)?;
            let fits = letter.bytes().all(|b| b.is_ascii_uppercase()) && !digits.is_empty();
            (fits && digits.bytes().all(|b| b.is_ascii_digit())).then(|| name.to_owned())
        }));
    }
    (sections, rules)
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let files = rust_files("src");
    let tests = test_modules(&files);
    let shipped =
        files.iter().filter(|(path, _)| path != Path::new("src/lib.rs") && !is_test_file(path, &tests));
    let faults: Vec<_> = shipped.flat_map(|(path, source)| faults_of_source(path, source)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn lib_rs_declares_each_room_that_exists_and_no_other() {
    let declared = declared_rooms(&read(&root().join("src/lib.rs")));
    let existing: BTreeSet<_> = rust_files("src")
        .iter()
        .filter(|(path, _)| path != Path::new("src/lib.rs"))
        .filter_map(|(path, _)| Some(place(path)?.0))
        .collect();
    assert_eq!(declared, existing, "declared in src/lib.rs, and found in src");
    let unknown: Vec<_> =
        existing.iter().filter(|room| !ROOMS.iter().any(|(name, _)| name == room)).collect();
    assert!(unknown.is_empty(), "rooms without a row in tests/tidy.rs: {unknown:?}");
}

#[test]
fn no_file_is_too_long_before_its_tests() {
    let files = rust_files("src");
    let tests = test_modules(&files);
    for (path, source) in files.iter().filter(|(path, _)| !is_test_file(path, &tests)) {
        let lines = lines_before_tests(source);
        assert!(lines <= MAX_LINES, "{}: {lines} lines, more than {MAX_LINES}", path.display());
    }
}

#[test]
fn no_file_has_an_empty_name() {
    for path in TREES.iter().flat_map(|tree| files_below(tree)) {
        for part in &path {
            let name = Path::new(part).file_stem().unwrap_or_default().to_string_lossy();
            assert!(!EMPTY_NAMES.contains(&&*name), "{}: {name} says nothing", path.display());
        }
    }
}

#[test]
fn nothing_is_ignored_or_left_to_do() {
    for (path, source) in TREES.iter().flat_map(|tree| rust_files(tree)) {
        let found = leftovers(&code_of(&source));
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn every_module_opens_with_its_documentation() {
    let files = rust_files("src");
    let tests = test_modules(&files);
    for (path, source) in files.iter().filter(|(path, _)| !is_test_file(path, &tests)) {
        assert!(source.starts_with("//!"), "{}: does not open with //!", path.display());
    }
}

#[test]
fn the_document_shows_the_same_table() {
    let document = read(&root().join("docs/ARCHITECTURE.md"));
    let rows: Vec<Vec<_>> = document
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let head = rows.iter().find(|row| row[0] == "may import").expect("a table that begins with `may import`");
    for (room, allowed) in ROOMS {
        let row = rows.iter().find(|row| row[0] == room).unwrap_or_else(|| panic!("no row for {room}"));
        let marked = head.iter().zip(row).skip(1).filter(|(_, mark)| **mark == "x").map(|(name, _)| *name);
        assert_eq!(marked.collect::<BTreeSet<_>>(), allowed.iter().copied().collect(), "row of {room}");
    }
}

#[test]
fn sections_and_rules_of_the_protocol_that_code_names_exist_once() {
    let (headings, rules) = anchors(&read(&root().join("docs/PROTOCOL.md")));
    let distinct: BTreeSet<_> = rules.iter().collect();
    assert_eq!(distinct.len(), rules.len(), "a rule is numbered twice");
    assert!(!rules.is_empty());
    for (path, source) in TREES.iter().flat_map(|tree| rust_files(tree)) {
        if path == Path::new("tests/tidy.rs") {
            continue;
        }
        let (sections, named) = references(&source);
        for section in sections {
            assert!(headings.contains(&section), "{}: no section {section:?}", path.display());
        }
        for rule in named {
            assert!(distinct.contains(&rule), "{}: no rule [{rule}]", path.display());
        }
    }
}

/// The checks themselves, on planted faults.
mod planted {
    use super::*;

    fn faults(path: &str, source: &str) -> Vec<String> {
        faults_of_source(Path::new(path), source)
    }

    #[test]
    fn an_import_of_a_higher_floor_is_named_with_its_line() {
        let source = "//! Doc.\n\nuse crate::frame::Seq;\nuse crate::transport::Transport;\n";
        assert_eq!(
            faults("src/session/mod.rs", source),
            ["src/session/mod.rs:4: session may not import transport"]
        );
    }

    #[test]
    fn imports_in_groups_inline_paths_and_climbs_are_found() {
        for source in [
            "use crate::{frame::Seq, socket::{Socket, State}};",
            "fn f() -> crate::socket::State { todo() }",
            "pub use crate::socket;",
            "use super::super::socket::Socket;",
            "pub(in crate::session) fn f(x: &crate::socket::Socket) {}",
            "mod inner { use crate::socket::Socket; }",
        ] {
            assert_eq!(faults("src/session/inbox.rs", source).len(), 1, "{source}");
        }
        assert_eq!(faults("src/session/mod.rs", "use super::socket::Socket;").len(), 1);
        assert_eq!(faults("src/server/http/mod.rs", "use super::super::client::Client;").len(), 1);
    }

    #[test]
    fn siblings_and_the_lowest_floor_are_held_as_well() {
        assert_eq!(faults("src/server/mod.rs", "use crate::client::Client;").len(), 1);
        assert_eq!(faults("src/client.rs", "use crate::server::Server;").len(), 1);
        assert_eq!(faults("src/frame/seq.rs", "use crate::session::Session;").len(), 1);
    }

    #[test]
    fn a_way_round_by_the_crate_root_is_no_way() {
        assert_eq!(faults("src/session/mod.rs", "use crate::Socket;").len(), 1);
        assert_eq!(faults("src/session/mod.rs", "use crate::*;").len(), 1);
    }

    #[test]
    fn a_room_without_a_row_is_refused() {
        assert_eq!(faults("src/attic/mod.rs", "").len(), 1);
        assert_eq!(
            declared_rooms("pub mod frame;\n#[cfg(feature = \"x\")]\nmod attic;\n#[cfg(test)]\nmod tests;"),
            ["attic".to_owned(), "frame".to_owned()].into()
        );
    }

    #[test]
    fn comments_literals_visibility_and_tests_are_no_imports() {
        for source in [
            "//! See [`Socket`](crate::socket::Socket).\n/* use crate::socket::X; /* nested */ */",
            "const A: &str = \"use crate::socket::X;\"; const B: &str = r#\"crate::socket::\"X\"\"#;",
            "pub(in crate::session) fn f<'a>(x: &'a str) -> char { '\"' }",
            "#[cfg(test)]\nmod tests {\n    use crate::socket::Socket;\n    fn f() { {} }\n}\n",
            "use crate::frame::Seq; use super::inbox::Inbox; use self::x::Y;",
        ] {
            assert_eq!(faults("src/session/transmit.rs", source), [""; 0], "{source}");
        }
    }

    #[test]
    fn code_behind_a_test_module_is_still_held() {
        let source = "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::socket::Socket;\n";
        assert_eq!(
            faults("src/session/mod.rs", source),
            ["src/session/mod.rs:3: session may not import socket"]
        );
    }

    #[test]
    fn test_files_are_known_by_what_their_parents_declare() {
        let files = [
            (PathBuf::from("src/session/mod.rs"), "#[cfg(test)]\nmod tests;\nmod inbox;".to_owned()),
            (PathBuf::from("src/session/inbox.rs"), "#[cfg(test)]\nmod checks;".to_owned()),
        ];
        let modules = test_modules(&files);
        for test in ["src/session/tests.rs", "src/session/tests/pair.rs", "src/session/inbox/checks.rs"] {
            assert!(is_test_file(Path::new(test), &modules), "{test}");
        }
        assert!(!is_test_file(Path::new("src/session/inbox.rs"), &modules));
    }

    #[test]
    fn only_lines_before_the_tests_count() {
        let source =
            format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(601), "// y\n".repeat(900));
        assert_eq!(lines_before_tests(&source), 601);
        assert_eq!(lines_before_tests("#[cfg(test)]\nmod tests;\n// x\n"), 3);
    }

    #[test]
    fn leftovers_are_found_in_code_and_only_there() {
        let planted = "#[ignore = \"slow\"]\nfn f() { todo!() }\n// todo!\nlet x = \"todo!\";\n";
        assert_eq!(leftovers(&code_of(planted)), [(1, "#[ignore"), (2, "todo!")]);
    }

    #[test]
    fn references_to_the_protocol_are_found_across_lines() {
        let source = "//! It implements `docs/PROTOCOL.md`, \"Plain\n//! SSE\" and \"Limits\".\n\
                      /// A rule (`docs/PROTOCOL.md`, [S4] and [W12]). See [`Other`].\n";
        let (sections, rules) = references(source);
        assert_eq!(sections, ["Plain SSE", "Limits"]);
        assert_eq!(rules, ["S4", "W12"]);
        let (headings, rules) = anchors("## 3. Limits\n**[S4]** a\n**[S5]** b, see [S4]\n");
        assert!(headings.contains("Limits"));
        assert_eq!(rules, ["S4", "S5"]);
    }
}

//! Circles of files inside the crates: files that use names of each other, directly or through
//! others. A circle has no order in which it can be read.
//!
//! The files are parsed. A file *uses* the file that defines a name, also if it imports the name by
//! a re-export. Test code does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, ItemUse, Macro, Meta, UseTree, Visibility,
    buffer::{Cursor, TokenBuffer},
    ext::IdentExt as _,
    visit::Visit,
};

/// The crates, by their folders.
const CRATES: [&str; 8] = [
    ".",
    "config",
    "connectors",
    "engine",
    "operators",
    "pipelines",
    "schemas",
    "service",
];

#[test]
fn files_form_no_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut report = String::new();
    for name in CRATES {
        let mut source = Source::default();
        let folder = root.join(name).join("src");
        let first = ["lib.rs", "main.rs"].map(|file| folder.join(file));
        for file in first.iter().filter(|file| file.exists()) {
            source.read(root, file, &folder, Vec::new());
        }
        for (files, ties) in source.circles() {
            let _ = writeln!(report, "a circle of {} files:\n{ties}", files.len());
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn a_circle_is_found() {
    let mut source = Source::default();
    source.add(
        "a.rs",
        &["a"],
        "use super::b::{B, c}; pub struct A; fn f() { c::f(); }",
    );
    source.add("b.rs", &["b"], "pub struct B(crate::A); pub use crate::c;");
    source.add(
        "c.rs",
        &["c"],
        "pub fn f() {} #[cfg(test)] mod tests { use crate::a::A; }",
    );
    source.add("lib.rs", &[], "mod a; mod b; mod c; pub use a::A;");
    let circles: Vec<Vec<String>> = source.circles().into_keys().collect();
    assert_eq!(circles, [["a.rs", "b.rs"]]);
}

#[test]
fn macros_and_attributes_count() {
    let mut source = Source::default();
    source.add("lib.rs", &[], "mod a; mod b;");
    source.add(
        "a.rs",
        &["a"],
        "#[command(help = crate::b::HELP)] struct A;",
    );
    source.add(
        "b.rs",
        &["b"],
        "pub const HELP: &str = \"\"; fn f() { format!(\"{}\", size_of::<crate::a::A>()); }",
    );
    assert_eq!(source.circles().len(), 1);
}

/// A module, by its path in the crate.
type Module = Vec<String>;

/// The parsed files of a crate.
#[derive(Default)]
struct Source {
    modules: BTreeMap<Module, Contents>,
    /// The paths in code, with their file and module.
    uses: Vec<(String, Module, Vec<String>)>,
}

/// The names of a module.
#[derive(Default)]
struct Contents {
    /// Defined names and their files.
    defined: BTreeMap<String, String>,
    /// Imported names and their paths.
    imported: BTreeMap<String, Vec<String>>,
    /// The modules of which all names are imported.
    globs: Vec<Vec<String>>,
}

/// The meaning of a path.
enum Target {
    Module,
    File(String),
}

impl Source {
    /// Reads a file, and those of its modules.
    fn read(&mut self, root: &Path, file: &Path, folder: &Path, module: Module) {
        let text = fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(root).unwrap().to_string_lossy();
        let modules: Vec<&str> = module.iter().map(String::as_str).collect();
        for child in self.add(&name, &modules, &text) {
            let inside = |name: &str| folder.join(&child).join(name);
            let candidates: [PathBuf; 2] = [folder.join(format!("{child}.rs")), inside("mod.rs")];
            let Some(file) = candidates.iter().find(|file| file.exists()) else {
                continue;
            };
            let mut path = module.clone();
            path.push(child.clone());
            self.read(root, file, &folder.join(&child), path);
        }
    }

    /// Adds a file. Returns the modules that have files of their own.
    fn add(&mut self, file: &str, module: &[&str], text: &str) -> Vec<String> {
        let parsed = syn::parse_file(text).unwrap();
        let module: Module = module.iter().map(|name| (*name).to_owned()).collect();
        let mut children = Vec::new();
        self.items(file, &module, &parsed.items, &mut children);
        children
    }

    fn items(&mut self, file: &str, module: &Module, items: &[Item], children: &mut Vec<String>) {
        self.modules.entry(module.clone()).or_default();
        for item in items {
            let attributes = attributes(item);
            if attributes.iter().any(is_test) {
                continue;
            }
            if let Some(name) = defined(item) {
                let contents = self.modules.entry(module.clone()).or_default();
                contents.defined.insert(name, file.to_owned());
            }
            match item {
                Item::Mod(inner) => {
                    let name = inner.ident.unraw().to_string();
                    let mut path = module.clone();
                    path.push(name.clone());
                    match &inner.content {
                        Some((_, items)) => self.items(file, &path, items, &mut Vec::new()),
                        None => children.push(name),
                    }
                }
                Item::Use(item) => self.import(file, module, item),
                item => {
                    let mut paths = Paths::default();
                    paths.visit_item(item);
                    let used = paths.found.into_iter();
                    self.uses
                        .extend(used.map(|path| (file.to_owned(), module.clone(), path)));
                }
            }
        }
    }

    fn import(&mut self, file: &str, module: &Module, item: &ItemUse) {
        let mut leaves = Vec::new();
        flatten(&item.tree, Vec::new(), &mut leaves);
        for (path, name) in leaves {
            let contents = self.modules.entry(module.clone()).or_default();
            match name {
                Some(name) => {
                    contents.imported.insert(name, path.clone());
                }
                None => contents.globs.push(path.clone()),
            }
            // A re-export uses nothing.
            if matches!(item.vis, Visibility::Inherited) {
                self.uses.push((file.to_owned(), module.clone(), path));
            }
        }
    }

    /// The meaning of a path in a module; `None` if it leads out of the crate.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Target> {
        if depth > 20 {
            return None;
        }
        let mut at = module.clone();
        let mut rest = path;
        let mut is_relative = true;
        while let Some((first, more)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                _ => break,
            }
            is_relative = false;
            rest = more;
        }
        for (index, name) in rest.iter().enumerate() {
            let mut child = at.clone();
            child.push(name.clone());
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            let contents = self.modules.get(&at)?;
            if let Some(file) = contents.defined.get(name) {
                return Some(Target::File(file.clone()));
            }
            let whole = |path: &Vec<String>| {
                let mut whole = path.clone();
                whole.extend_from_slice(&rest[index + 1..]);
                whole
            };
            if let Some(path) = contents.imported.get(name) {
                // A crate of this name, if the import has the name of its own first part.
                let is_itself = path.first() == Some(name) && index == 0 && is_relative;
                if is_itself && path.len() == 1 {
                    return None;
                }
                return self.resolve(&at, &whole(path), depth + 1);
            }
            return contents.globs.iter().find_map(|glob| {
                let mut path = glob.clone();
                path.extend_from_slice(&rest[index..]);
                self.resolve(&at, &path, depth + 1)
            });
        }
        Some(Target::Module)
    }

    /// The circles, with the names that tie their files.
    fn circles(&self) -> BTreeMap<Vec<String>, String> {
        let mut edges: BTreeMap<&str, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (file, module, path) in &self.uses {
            if let Some(Target::File(other)) = self.resolve(module, path, 0)
                && other != *file
            {
                let names = edges.entry(file).or_default().entry(other).or_default();
                names.insert(path.last().cloned().unwrap_or_default());
            }
        }
        let reach: BTreeMap<&str, BTreeSet<&str>> = edges
            .keys()
            .map(|from| (*from, reachable(&edges, from)))
            .collect();
        let mut circles = BTreeMap::new();
        for (from, reached) in &reach {
            if !reached.contains(from) {
                continue;
            }
            let is_back = |file: &&&str| reach.get(**file).is_some_and(|it| it.contains(from));
            let files: BTreeSet<&str> = reached.iter().filter(is_back).copied().collect();
            let mut ties = String::new();
            for file in &files {
                for (other, names) in &edges[file] {
                    if files.contains(other.as_str()) {
                        let _ = writeln!(ties, "  {file} -> {other}: {names:?}");
                    }
                }
            }
            let files = files.into_iter().map(str::to_owned).collect();
            circles.insert(files, ties);
        }
        circles
    }
}

/// The files that `from` uses, directly or through others.
fn reachable<'a>(
    edges: &'a BTreeMap<&str, BTreeMap<String, BTreeSet<String>>>,
    from: &str,
) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = edges[from].keys().map(String::as_str).collect();
    while let Some(file) = next.pop() {
        if reached.insert(file)
            && let Some(more) = edges.get(file)
        {
            next.extend(more.keys().map(String::as_str));
        }
    }
    reached
}

/// The paths in code, without imports and test code.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl Paths {
    /// The paths among tokens, which have no syntax tree.
    fn visit_tokens(&mut self, mut at: Cursor<'_>) {
        let mut path = Vec::new();
        while !at.eof() {
            if let Some((name, next)) = at.ident() {
                path.push(name.unraw().to_string());
                at = next;
                if let Some(next) = after_colons(at)
                    && next.ident().is_some()
                {
                    at = next;
                } else {
                    self.found.push(std::mem::take(&mut path));
                }
            } else if let Some((inside, _, _, next)) = at.any_group() {
                self.visit_tokens(inside);
                at = next;
            } else {
                let (_, next) = at.token_tree().expect("tokens are left");
                at = next;
            }
        }
    }
}

/// The tokens after a `::`.
fn after_colons(at: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, next) = at.punct()?;
    let (second, next) = next.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(next)
}

impl Visit<'_> for Paths {
    fn visit_path(&mut self, path: &syn::Path) {
        let segments = path.segments.iter();
        let names = segments.map(|segment| segment.ident.unraw().to_string());
        self.found.push(names.collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &Macro) {
        self.visit_path(&item.path);
        self.visit_tokens(TokenBuffer::new2(item.tokens.clone()).begin());
    }

    fn visit_attribute(&mut self, item: &Attribute) {
        if let Meta::List(list) = &item.meta {
            self.visit_tokens(TokenBuffer::new2(list.tokens.clone()).begin());
        }
    }

    fn visit_item(&mut self, item: &Item) {
        if !attributes(item).iter().any(is_test) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        if !item.attrs.iter().any(is_test) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }
}

/// The paths of an import, with the names that they get; `None` for all names of a module.
fn flatten(tree: &UseTree, mut path: Vec<String>, leaves: &mut Vec<(Vec<String>, Option<String>)>) {
    match tree {
        UseTree::Path(tree) => {
            path.push(tree.ident.unraw().to_string());
            flatten(&tree.tree, path, leaves);
        }
        UseTree::Name(name) => {
            let name = name.ident.unraw().to_string();
            if name == "self" {
                let name = path.last().cloned();
                leaves.push((path, name));
            } else {
                path.push(name.clone());
                leaves.push((path, Some(name)));
            }
        }
        UseTree::Rename(rename) => {
            path.push(rename.ident.unraw().to_string());
            leaves.push((path, Some(rename.rename.unraw().to_string())));
        }
        UseTree::Glob(_) => leaves.push((path, None)),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, path.clone(), leaves);
            }
        }
    }
}

/// Whether an attribute is `#[cfg(test)]` or `#[test]`, or one with `test` in its condition.
fn is_test(attribute: &Attribute) -> bool {
    let path = attribute.path();
    let is_cfg = path.is_ident("cfg");
    path.is_ident("test")
        || (is_cfg
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test")))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.unraw().to_string())
}

//! The pages of the repository: every link resolves, and every YAML block is valid. A block is a
//! whole file, or a fragment inside a frame with the rest of a file.
//!
//! A page marks a fragment with three backticks and `yaml fragment=tables`. The name selects the
//! frame.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tagflow_pipelines::{LoadOptions, Pipeline};
use tagflow_service::test;

/// The rest of a file, for most fragments.
const FRAME: &str = r#"
name: page
sources:
  events:
    kafka: {brokers: "localhost:9092", topics: [behaviour-events]}
    format: {json: {}}
    columns:
      event_id: string
      user_id: string
      event_type: string
      campaign_id: string?
      cart_id: string?
      category: string?
      city: string?
      product_id: string?
      user_agent: string?
      amount: decimal(18,2)?
      occurred_at: timestamp(ms)
    time: {event_time: occurred_at}
steps:
  ads: {from: events, flag_bots: {user_agent: user_agent}}
  orders: {from: events, where: "event_type = 'purchase'"}
sinks:
  frame: {from: events, blackhole: {}}
"#;

/// A block of a page.
struct Block {
    page: PathBuf,
    /// Its first line.
    line: usize,
    /// The fragment's name; `None` for a whole file.
    fragment: Option<String>,
    text: String,
}

/// The folder of the repository.
fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// The pages of the repository, and in each folder the index first.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let mut pages: Vec<_> = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    ]
    .map(|page| root.join(page))
    .into();
    let mut folders = vec![root.join("docs"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// The YAML blocks of a page. Blocks in other languages are skipped, and marked with their
/// language.
fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside: Option<bool> = None;
    for (line, content) in (1..).zip(text.lines()) {
        match (inside, content.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let mut words = info.split_whitespace();
                let is_yaml = matches!(words.next(), Some("yaml" | "yml"));
                if is_yaml {
                    let fragment = words.next().map(|word| {
                        let name = word.strip_prefix("fragment=");
                        name.unwrap_or_else(|| panic!("{}:{line}: `{word}`", page.display()))
                            .to_owned()
                    });
                    blocks.push(Block {
                        page: page.to_owned(),
                        line,
                        fragment,
                        text: String::new(),
                    });
                }
                inside = Some(is_yaml);
            }
            (Some(_), Some(_)) => inside = None,
            (Some(true), None) => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(content);
                block.text.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// The blocks of the file's top level, by key.
fn split(text: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let is_key = line.starts_with(|c: char| c.is_alphabetic());
        if let (true, Some((key, _))) = (is_key, line.split_once(':')) {
            parts.push((key.to_owned(), String::new()));
        }
        if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

/// `frame` with the blocks of `fragment` in place of its own.
fn merged(frame: &str, fragment: &str) -> String {
    let own = split(fragment);
    let rest = split(frame);
    let rest = rest
        .into_iter()
        .filter(|(key, _)| own.iter().all(|(it, _)| it != key));
    rest.map(|(_, part)| part).collect::<String>() + fragment
}

/// The whole file for a block. Fragments that it needs are in pages of the same folder.
fn whole(block: &Block, of_folder: &[&Block]) -> String {
    let Some(name) = &block.fragment else {
        return block.text.clone();
    };
    let fragment = |name: &str| {
        let found = of_folder
            .iter()
            .find(|it| it.fragment.as_deref() == Some(name));
        found.map_or("", |it| it.text.as_str())
    };
    match name.as_str() {
        "params" | "tables" | "steps" | "queries" | "metrics" | "tags" | "sinks" | "errors" => {
            merged(FRAME, &block.text)
        }
        "properties" => {
            let lines: Vec<&str> = block.text.lines().collect();
            let indented = format!("      {}\n", lines.join("\n      "));
            FRAME.replace(
                "    kafka: {brokers: \"localhost:9092\", topics: [behaviour-events]}\n",
                &format!("    kafka:\n      brokers: localhost:9092\n      topics: [behaviour-events]\n{indented}"),
            )
        }
        "segments" => merged(&merged(FRAME, fragment("tags")), &block.text),
        "scenes" => {
            let frame = merged(&merged(FRAME, fragment("tags")), fragment("segments"));
            merged(&frame, &block.text)
        }
        "tests" => {
            let first = of_folder.iter().find(|it| it.fragment.is_none());
            merged(
                &first.expect("the first page contains a whole file").text,
                &block.text,
            )
        }
        other => panic!(
            "{}:{}: no frame is known for `fragment={other}`; give it one here",
            block.page.display(),
            block.line
        ),
    }
}

#[test]
fn regression_the_blocks_of_every_page_are_right() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("kafka");
    fs::write(&secret, "secret").unwrap();
    let options = LoadOptions {
        set: vec![("region".to_owned(), "eu".to_owned())],
        env: Arc::new(|name| (name == "KAFKA_USER").then(|| "user".to_owned())),
    };
    let without = LoadOptions {
        set: Vec::new(),
        ..options.clone()
    };
    let blocks: Vec<Block> = pages().iter().flat_map(|page| blocks(page)).collect();
    let mut problems = String::new();
    for block in &blocks {
        let of_folder: Vec<_> = blocks
            .iter()
            .filter(|it| it.page.parent() == block.page.parent())
            .collect();
        let file = whole(block, &of_folder).replace("/run/secrets/kafka", secret.to_str().unwrap());
        let options = if file.contains("region:") {
            &options
        } else {
            &without
        };
        let name = format!("{}:{}", block.page.display(), block.line);
        match Pipeline::open_str(&name, &file, options) {
            Err(found) => problems.push_str(&found.human()),
            Ok(pipeline) => {
                let results = test::run(&pipeline, 1).unwrap();
                if results.iter().any(|result| !result.has_passed()) {
                    problems.push_str(&test::human(&results));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
    let has_blocks = |folder: &str| {
        blocks
            .iter()
            .any(|it| it.page.starts_with(root().join(folder)))
    };
    assert!(has_blocks("docs/guide") && has_blocks("docs/reference"));
    assert!(
        blocks.len() >= 20,
        "only {} blocks were found",
        blocks.len()
    );
}

/// The anchors of a page: the text of each heading in lower case, with `-` between the words and
/// without punctuation.
fn anchors(page: &Path) -> Vec<String> {
    let prose = prose(page);
    let headings = prose.iter().filter(|(_, line)| line.starts_with('#'));
    headings
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " _-".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The numbered lines of a page outside its code.
fn prose(page: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(page).unwrap();
    let mut is_code = false;
    let mut prose = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push((number, line.to_owned()));
        }
    }
    prose
}

#[test]
fn every_link_of_the_pages_resolves() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in pages() {
        for (line, text) in prose(&page) {
            for rest in text.split("](").skip(1) {
                let (target, _) = rest.split_once(')').unwrap();
                if target.contains("://") {
                    continue;
                }
                seen += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = match path {
                    "" => page.clone(),
                    path => page.parent().unwrap().join(path),
                };
                let resolves = path.exists()
                    && (anchor.is_empty() || anchors(&path).iter().any(|it| it == anchor));
                if !resolves {
                    broken.push(format!("{}:{line}: {target}", page.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(seen >= 100, "only {seen} links were found");
}

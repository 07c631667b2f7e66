//! Builds the tree from the parser's events.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::{Key, Node, Scalar, Style, Value, flow};
use crate::diagnostic::{Diagnostics, Position};

/// Bounds the expansion of nested aliases.
const MOST_NODES: usize = 100_000;
/// Bounds the text of all values, including that of aliases.
const MOST_BYTES: usize = 16 << 20;
/// Bounds the depth of nested lists and maps.
const DEEPEST: usize = 64;

/// The document in `text`. Errors such as duplicate keys are added to `diagnostics` and omitted
/// from the tree; `None` without any tree.
pub fn parse(text: &str, diagnostics: &mut Diagnostics) -> Option<Node> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        diagnostics,
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
        depth: 0,
    };
    match builder.document() {
        Ok(root) => root,
        Err(Stop(at, message)) => {
            let diagnostic = builder.diagnostics.error(at, "", message);
            if let Some(help) = flow::help(text, at) {
                diagnostic.help(help);
            }
            None
        }
    }
}

/// Why the rest of the file cannot be read.
struct Stop(Position, String);

type Spotted<'t> = (Event<'t>, Span);

struct Builder<'t, 'd> {
    parser: Parser<'t, StrInput<'t>>,
    diagnostics: &'d mut Diagnostics,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl<'t> Builder<'t, '_> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    let message = "a second document; one file holds one pipeline";
                    return Err(Stop(position(span.start), message.into()));
                }
                Event::DocumentStart(..) => {
                    let first = self.next()?;
                    root = Some(self.node(first)?);
                }
                _ => return Err(Stop(position(span.start), "not a YAML document".into())),
            }
        }
        if root.is_none() {
            self.diagnostics
                .error(Position::START, "", "the file is empty");
        }
        Ok(root)
    }

    fn node(&mut self, (event, span): Spotted<'t>) -> Result<Node, Stop> {
        let at = position(span.start);
        if let Event::Scalar(_, _, _, Some(tag))
        | Event::SequenceStart(_, _, Some(tag))
        | Event::MappingStart(_, _, Some(tag)) = &event
        {
            let at = position(span.tag_start.unwrap_or(span.start));
            let message = format!("the tag `{tag}` is not understood; write the plain value");
            self.diagnostics.error(at, "", message);
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let scalar = Scalar {
                    text: text.into_owned(),
                    style: style_of(style),
                    source: bytes(span),
                };
                (Value::Scalar(scalar), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.nested(at, Self::list)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.nested(at, Self::map)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, at),
            _ => return Err(Stop(at, "expected a value".into())),
        };
        let own = match &value {
            Value::Scalar(scalar) => scalar.text.len(),
            Value::List(_) => 0,
            Value::Map(entries) => entries.iter().map(|(key, _)| key.text.len()).sum(),
        };
        self.count(Size::of_one(own), at)?;
        let node = Node { at, value };
        if anchor != 0 {
            self.count(size(&node), at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn nested(
        &mut self,
        at: Position,
        read: impl FnOnce(&mut Self) -> Result<Value, Stop>,
    ) -> Result<Value, Stop> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("lists and maps are nested more than {DEEPEST} deep");
            return Err(Stop(at, message));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                item => items.push(self.node(item)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut first_at: HashMap<String, Position> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let key = self.node((event, span))?;
            let first = self.next()?;
            let value = self.node(first)?;
            let Value::Scalar(Scalar { text, .. }) = key.value else {
                let message = format!("expected a name as key, got {}", key.describe());
                self.diagnostics.error(key.at, "", message);
                continue;
            };
            if let Some(first) = first_at.get(&text) {
                let message = format!("duplicate key `{text}`; it is already at {first}");
                self.diagnostics.error(key.at, "", message);
                continue;
            }
            first_at.insert(text.clone(), key.at);
            entries.push((Key { at: key.at, text }, value));
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<Node, Stop> {
        let Some(size) = self.anchors.get(&anchor).map(size) else {
            return Err(Stop(at, "an anchor cannot hold itself".into()));
        };
        self.count(size, at)?;
        if self.depth + size.depth > DEEPEST {
            let message = format!("lists and maps are nested more than {DEEPEST} deep");
            return Err(Stop(at, message));
        }
        let node = self.anchors.get(&anchor).cloned();
        node.ok_or_else(|| Stop(at, "an anchor cannot hold itself".into()))
    }

    fn count(&mut self, size: Size, at: Position) -> Result<(), Stop> {
        self.nodes += size.nodes;
        if self.nodes > MOST_NODES {
            return Err(Stop(at, format!("more than {MOST_NODES} values")));
        }
        self.bytes += size.bytes;
        if self.bytes > MOST_BYTES {
            let most = MOST_BYTES >> 20;
            return Err(Stop(
                at,
                format!("the values, with those of aliases, are more than {most} MiB"),
            ));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Spotted<'t>, Stop> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let message = format!("not YAML: {}", error.info());
                Err(Stop(position(*error.marker()), message))
            }
            None => Err(Stop(Position::START, "the file ends too early".into())),
        }
    }
}

/// The size of a node with its content.
#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: usize,
    /// The bytes of its texts.
    bytes: usize,
    /// The depth of nested lists and maps.
    depth: usize,
}

impl Size {
    fn of_one(bytes: usize) -> Self {
        Self {
            nodes: 1,
            bytes,
            depth: 0,
        }
    }

    /// The size of a list or map: `self` and the `items` in it.
    fn around(self, items: impl Iterator<Item = Self>) -> Self {
        let mut around = Self { depth: 1, ..self };
        for item in items {
            around.nodes += item.nodes;
            around.bytes += item.bytes;
            around.depth = around.depth.max(item.depth + 1);
        }
        around
    }
}

fn size(node: &Node) -> Size {
    match &node.value {
        Value::Scalar(scalar) => Size::of_one(scalar.text.len()),
        Value::List(items) => Size::of_one(0).around(items.iter().map(size)),
        Value::Map(entries) => {
            let keys = entries.iter().map(|(key, _)| key.text.len());
            Size::of_one(keys.sum()).around(entries.iter().map(|(_, node)| size(node)))
        }
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}

fn bytes(span: Span) -> std::ops::Range<usize> {
    let start = span.start.byte_offset().unwrap_or_default();
    start..span.end.byte_offset().unwrap_or(start).max(start)
}

fn position(marker: Marker) -> Position {
    Position {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    }
}

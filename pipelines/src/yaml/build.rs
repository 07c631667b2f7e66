//! From the parser's events to the tree.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::{Key, Node, Scalar, Style, Value};
use crate::diagnostic::{Diagnostics, Position};

/// Bounds what aliases of aliases can blow up to.
const MOST_NODES: usize = 100_000;

/// The document in `text`. Duplicate keys and the like are added to
/// `diagnostics` and left out of the tree; `None` where there is no tree at
/// all.
pub(crate) fn parse(text: &str, diagnostics: &mut Diagnostics) -> Option<Node> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        diagnostics,
        anchors: HashMap::new(),
        nodes: 0,
    };
    match builder.document() {
        Ok(root) => root,
        Err(Stop(at, message)) => {
            builder.diagnostics.error(at, "", message);
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
            Event::SequenceStart(_, anchor, _) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map()?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, at),
            _ => return Err(Stop(at, "expected a value".into())),
        };
        self.count(1, at)?;
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
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
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.text == text) {
                let message = format!("duplicate key `{text}`; it is already at {}", first.at);
                self.diagnostics.error(key.at, "", message);
                continue;
            }
            entries.push((Key { at: key.at, text }, value));
        }
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Stop(at, "an anchor cannot hold itself".into()));
        };
        self.count(size(&node), at)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(Stop(at, format!("more than {MOST_NODES} values")));
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

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(node)).sum(),
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

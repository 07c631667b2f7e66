//! The tables of settings in the reference are those of the JSON Schema, whose texts are the doc
//! comments of the settings.
//!
//! A page marks such a table by a comment before and after it: `<!-- settings: KafkaSource -->`
//! and `<!-- end of settings -->`. `UPDATE_REFERENCE=1` writes the tables.

use std::{fs, path::Path};

use serde_json::{Map, Value};

const END: &str = "<!-- end of settings -->";

#[test]
fn the_tables_of_settings_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = fs::read_to_string(root.join("schemas/json/pipeline.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut tables = 0;
    for entry in fs::read_dir(root.join("docs/reference")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let current = written(&text, &schema, &mut tables);
        if text == current {
            continue;
        }
        assert!(
            std::env::var_os("UPDATE_REFERENCE").is_some(),
            "{} is old; run with UPDATE_REFERENCE=1",
            path.display()
        );
        fs::write(&path, current).unwrap();
    }
    assert!(tables >= 6, "only {tables} tables of settings were found");
}

#[test]
fn a_page_with_another_text_is_old() {
    let schema = serde_json::json!({"definitions": {"Thing": {
        "properties": {
            "size": {"description": "Its size.\nAlways positive.", "default": "1MiB"},
            "name": {"description": "Its name.", "type": "string"},
            "group": {"description": "Its group. Default: the name."},
            "inner": {"description": "More.", "allOf": [{"$ref": "#/definitions/Inner"}]},
        },
        "required": ["name"],
    }, "Inner": {"properties": {"on": {"description": "A | b.", "default": true}}}}});
    let page = "# Page\n\n<!-- settings: Thing -->\nold\n<!-- end of settings -->\n\nEnd.\n";
    let expected = "# Page\n\n<!-- settings: Thing -->\n\
        | key | means | default |\n\
        | --- | --- | --- |\n\
        | `name` | Its name. | needed |\n\
        | `group` | Its group. | the name |\n\
        | `inner.on` | A \\| b. | `true` |\n\
        | `size` | Its size. Always positive. | `1MiB` |\n\
        <!-- end of settings -->\n\nEnd.\n";
    assert_eq!(written(page, &schema, &mut 0), expected);
}

/// `page` with its tables as in `schema`.
fn written(page: &str, schema: &Value, tables: &mut usize) -> String {
    let mut lines = page.lines();
    let mut text = String::new();
    while let Some(line) = lines.next() {
        text.push_str(line);
        text.push('\n');
        let name = line.strip_prefix("<!-- settings: ");
        let Some(name) = name.and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        *tables += 1;
        text.push_str("| key | means | default |\n| --- | --- | --- |\n");
        for row in rows(schema, name, "") {
            text.push_str(&row);
        }
        text.push_str(END);
        text.push('\n');
        let end = lines.find(|line| *line == END);
        assert!(end.is_some(), "the table of `{name}` has no end");
    }
    text
}

/// The rows of a definition: first the settings without a default.
fn rows(schema: &Value, name: &str, prefix: &str) -> Vec<String> {
    let definition = &schema["definitions"][name];
    let properties = definition["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("the schema has no settings of `{name}`"));
    let required: Vec<&str> = definition["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (needed, other): (Vec<_>, Vec<_>) = properties
        .iter()
        .partition(|(key, _)| required.contains(&key.as_str()));
    let all = needed.into_iter().chain(other);
    all.flat_map(|(key, property)| {
        let key = format!("{prefix}{key}");
        if let Some(inner) = inner(schema, property) {
            return rows(schema, inner, &format!("{key}."));
        }
        let is_needed = prefix.is_empty() && required.contains(&key.as_str());
        vec![row(&key, property, is_needed)]
    })
    .collect()
}

/// The definition of a block within a block.
fn inner<'a>(schema: &Value, property: &'a Value) -> Option<&'a str> {
    let reference = property["allOf"][0]["$ref"].as_str()?;
    let name = reference.strip_prefix("#/definitions/")?;
    let properties: Option<&Map<_, _>> = schema["definitions"][name]["properties"].as_object();
    properties.is_some().then_some(name)
}

fn row(key: &str, property: &Value, is_needed: bool) -> String {
    let text = property["description"].as_str().unwrap_or_default();
    let text = text.replace('\n', " ").replace('|', "\\|");
    let (text, told) = match text.split_once(" Default: ") {
        Some((text, default)) => (text.to_owned(), Some(default.trim_end_matches('.'))),
        None => (text.clone(), None),
    };
    let default = match (&property["default"], told) {
        (_, Some(told)) => told.to_owned(),
        _ if is_needed => "needed".to_owned(),
        (Value::Null, None) => "none".to_owned(),
        (Value::String(default), None) => format!("`{default}`"),
        (Value::Array(items), None) if items.is_empty() => "none".to_owned(),
        (Value::Object(fields), None) if fields.is_empty() => "none".to_owned(),
        (default, None) => format!("`{default}`"),
    };
    format!("| `{key}` | {text} | {default} |\n")
}

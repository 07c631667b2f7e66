//! The list of sources and the list of sinks. A new component is a folder and a line here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, json};
use tagflow_config::{Fields, Reader};

use crate::{
    blackhole::BlackholeConfig,
    component::{SinkComponent, SourceComponent},
    console::ConsoleConfig,
    files::FilesConfig,
    generator::GeneratorConfig,
    kafka::KafkaConfig,
    parquet::ParquetConfig,
};

/// An enum of components: each is a key of the pipeline file, with its block.
macro_rules! components {
    (
        $(#[doc = $about:literal])*
        $list:ident: $component:ident
        $($(#[doc = $text:literal])* $key:ident: $kind:ident($block:ty),)*
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $list {
            $($(#[doc = $text])* $kind(Box<$block>),)*
        }

        impl $list {
            /// The keys in the pipeline file.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($key)),*];

            /// Its key in the pipeline file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => stringify!($key),)*
                }
            }

            /// Its settings.
            pub fn component(&self) -> &dyn $component {
                match self {
                    $(Self::$kind(block) => &**block,)*
                }
            }

            /// Reads the one component among `fields`. None or several are a mistake.
            pub fn read(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let name = fields.one_of(reader, Self::NAMES);
                $(let $key = fields.settings::<$block>(reader, stringify!($key));)*
                match name? {
                    $(stringify!($key) => $key?.map(Box::new).map(Self::$kind),)*
                    _ => None,
                }
            }
        }

        /// The properties of a block that contains one component among others.
        impl JsonSchema for $list {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($list).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut properties = Map::new();
                $(
                    let block = generator.subschema_for::<$block>();
                    let text = [$($text),*].map(str::trim).join("\n");
                    // Without a value, all settings have their defaults.
                    let property = json!({
                        "anyOf": [block, {"type": "null"}],
                        "description": text,
                    });
                    properties.insert(stringify!($key).into(), property);
                )*
                let one_of = Self::NAMES.iter().map(|name| json!({"required": [name]}));
                json_schema!({
                    "type": "object",
                    "properties": properties,
                    "oneOf": one_of.collect::<Vec<_>>(),
                })
            }
        }
    };
}

components! {
    /// A source of rows.
    SourceConfig: SourceComponent
    /// Topics of a Kafka cluster.
    kafka: Kafka(KafkaConfig),
    /// Files, read once to their end.
    files: Files(FilesConfig),
    /// Generated behaviour events, for experiments.
    generator: Generator(GeneratorConfig),
}

components! {
    /// A target of rows.
    SinkConfig: SinkComponent
    /// A table of Parquet files.
    parquet: Parquet(ParquetConfig),
    /// Prints rows, for inspection: some may be printed again after a restart.
    console: Console(ConsoleConfig),
    /// Counts rows and drops them, for measuring.
    blackhole: Blackhole(BlackholeConfig),
}

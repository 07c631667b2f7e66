//! `admin`: the HTTP server for health, metrics and status.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;
use tagflow_config::{Read, Reader, Setting, diagnostic::Position, yaml::Node};

/// The HTTP server for health, metrics and status while a pipeline runs. It has no authentication.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Admin {
    /// Its address and port. Default: 127.0.0.1:8642, or a free port if that one is taken.
    #[schemars(extend("default" = "127.0.0.1:8642"))]
    pub listen: Setting<SocketAddr>,
    /// Names besides `localhost` that clients may use in the `Host` header, as in `Host:
    /// metrics.internal`. Addresses are always allowed.
    #[schemars(extend("default" = serde_json::json!([])))]
    pub allowed_hosts: Vec<Setting<String>>,
}

/// The warning for an address that other machines can reach.
pub const OPEN_TO_OTHERS: &str =
    "other machines can reach the admin server, and it asks nobody who they are";

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8642);

impl Admin {
    /// The default, for a file without the block.
    pub(crate) fn default_at(at: Position) -> Self {
        Self {
            listen: Setting::default_at(LISTEN, at),
            allowed_hosts: Vec::new(),
        }
    }
}

impl Read for Admin {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let listen = fields.or(reader, "listen", LISTEN);
        let allowed_hosts = fields.optional::<Vec<_>>(reader, "allowed_hosts");
        fields.finish(reader);
        Some(Self {
            listen: listen?,
            allowed_hosts: allowed_hosts?.unwrap_or_default(),
        })
    }
}

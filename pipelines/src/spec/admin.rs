//! `admin`: the HTTP server for health, metrics and status.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Setting,
    read::{Read, Reader},
};
use crate::{diagnostic::Position, yaml::Node};

/// The HTTP server for health, metrics and status while a pipeline runs. It
/// asks nobody who they are.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Admin {
    /// Its address and port. Where it is not given and the port is taken, a
    /// free one is.
    #[schemars(extend("default" = "127.0.0.1:8642"))]
    pub listen: Setting<SocketAddr>,
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8642);

impl Admin {
    /// Of a file without the block.
    pub(crate) fn default_at(at: Position) -> Self {
        Self {
            listen: Setting::default_at(LISTEN, at),
        }
    }
}

impl Read for Admin {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = reader.fields(node)?;
        let listen = fields.or(reader, "listen", LISTEN);
        fields.finish(reader);
        Some(Self { listen: listen? })
    }
}

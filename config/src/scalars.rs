//! The scalars of the file: text, numbers, durations, sizes, ratios, instants.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use chrono_tz::{TZ_VARIANTS, Tz};
use schemars::{Schema, json_schema};
use serde_json::json;
use tagflow_engine::{EventTime, time::micros};

use crate::{
    diagnostic::{closest, unknown},
    setting::{Leaf, Mistake},
    yaml::Kind,
};

impl Leaf for String {
    const EXPECTED: &'static str = "a string";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        match kind {
            Kind::String => Ok(text.into()),
            Kind::Null => Err(Mistake::Type),
            _ => Err(Mistake::TypeWithHelp(format!(
                "put it in quotes: `\"{text}\"`"
            ))),
        }
    }

    fn plan(&self) -> serde_json::Value {
        json!(self)
    }

    fn schema() -> Schema {
        json_schema!({"type": "string"})
    }
}

impl Leaf for u64 {
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        match (kind, text.parse()) {
            (Kind::Integer, Ok(number)) => Ok(number),
            (Kind::String, Ok(_)) => Err(Mistake::TypeWithHelp("take the quotes off".into())),
            _ => Err(Mistake::Type),
        }
    }

    fn plan(&self) -> serde_json::Value {
        json!(self)
    }

    fn schema() -> Schema {
        json_schema!({"type": "integer", "minimum": 0})
    }
}

impl Leaf for u32 {
    const EXPECTED: &'static str = u64::EXPECTED;

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        let number = u64::parse(text, kind)?;
        let too_large = format!("at most {}, got {number}", Self::MAX);
        Self::try_from(number).map_err(|_| Mistake::Message(too_large))
    }

    fn plan(&self) -> serde_json::Value {
        json!(self)
    }

    fn schema() -> Schema {
        u64::schema()
    }
}

impl Leaf for f64 {
    const EXPECTED: &'static str = "a number";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        let number = text.parse().ok().filter(|number: &Self| number.is_finite());
        match (kind, number) {
            (Kind::Integer | Kind::Float, Some(number)) => Ok(number),
            (Kind::String, Some(_)) => Err(Mistake::TypeWithHelp("take the quotes off".into())),
            _ => Err(Mistake::Type),
        }
    }

    fn plan(&self) -> serde_json::Value {
        json!(self)
    }

    fn schema() -> Schema {
        json_schema!({"type": "number"})
    }
}

impl Leaf for bool {
    const EXPECTED: &'static str = "`true` or `false`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        match kind {
            Kind::Bool => Ok(text.eq_ignore_ascii_case("true")),
            Kind::String => match text.to_ascii_lowercase().as_str() {
                "yes" | "on" => Err(Mistake::TypeWithHelp("write `true`".into())),
                "no" | "off" => Err(Mistake::TypeWithHelp("write `false`".into())),
                _ => Err(Mistake::Type),
            },
            _ => Err(Mistake::Type),
        }
    }

    fn plan(&self) -> serde_json::Value {
        json!(self)
    }

    fn schema() -> Schema {
        json_schema!({"type": "boolean"})
    }
}

/// A share of something, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// No share.
    pub const ZERO: Self = Self(0.0);

    /// A share from 0 to 1; `None` for another number.
    pub const fn new(share: f64) -> Option<Self> {
        if share >= 0.0 && share <= 1.0 {
            Some(Self(share))
        } else {
            None
        }
    }

    /// The share, from 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Leaf for Ratio {
    const EXPECTED: &'static str = "a share from 0 to 1, like `0.05`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        if !matches!(kind, Kind::Integer | Kind::Float) {
            return Err(Mistake::Type);
        }
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(Mistake::Type),
        }
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.0)
    }

    fn schema() -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

impl Leaf for Duration {
    const EXPECTED: &'static str = "a duration like `5s`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        match kind {
            Kind::String => duration(text),
            Kind::Integer | Kind::Float => Err(Mistake::TypeWithHelp(format!(
                "add a unit (ms, s, m, h, d): `{text}s`"
            ))),
            _ => Err(Mistake::Type),
        }
    }

    fn plan(&self) -> serde_json::Value {
        json!(humantime::format_duration(*self).to_string())
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "pattern": r"^\d+ *(ms|s|m|h|d)( *\d+ *(ms|s|m|h|d))*$"})
    }
}

/// The units of durations, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A duration beyond a century is a mistake.
const LONGEST_MS: u64 = 36_525 * 86_400_000;

/// `1h 30m`: numbers, each with its unit.
fn duration(text: &str) -> Result<Duration, Mistake> {
    let mut milliseconds = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(Mistake::Type);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|it: char| !it.is_alphabetic());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        if number.is_empty() {
            return Err(Mistake::Type);
        }
        let Some((_, unit)) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit) else {
            let unit = if unit.is_empty() {
                "no unit".to_owned()
            } else {
                format!("the unit `{unit}`")
            };
            return Err(Mistake::TypeWithHelp(format!(
                "it has {unit}; the units are ms, s, m, h and d"
            )));
        };
        milliseconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .and_then(|more| milliseconds.checked_add(more))
            .filter(|sum| *sum <= LONGEST_MS)
            .ok_or_else(|| Mistake::TypeWithHelp("the longest duration is `36525d`".into()))?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(milliseconds))
}

/// A number of bytes, written with a unit: `256MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// Largest first, so that a size prints in the largest that divides it.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// `mebibytes` times 1,048,576 bytes.
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// Bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = BYTE_UNITS
            .into_iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl Leaf for ByteSize {
    const EXPECTED: &'static str = "a size like `256MiB`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        if kind == Kind::Integer {
            let help = format!("add a unit (B, KiB, MiB, GiB, kB, MB, GB): `{text}B`");
            return Err(Mistake::TypeWithHelp(help));
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = BYTE_UNITS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()));
        let bytes = number
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(number, (_, bytes))| number.checked_mul(bytes));
        bytes.map(Self).ok_or(Mistake::Type)
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "pattern": r"^\d+ *([KkMGT]i?)?B$"})
    }
}

impl Leaf for Tz {
    const EXPECTED: &'static str = "a time zone like `Asia/Shanghai`";

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        if kind != Kind::String {
            return Err(Mistake::Type);
        }
        text.parse().map_err(|_| {
            let names = TZ_VARIANTS.iter().map(|zone| zone.name());
            let message = format!("there is no time zone `{text}`");
            match closest(text, names) {
                Some(name) => Mistake::Message(format!("{message}; did you mean `{name}`?")),
                None => Mistake::Message(format!("{message}; write one like `Asia/Shanghai`")),
            }
        })
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.name())
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "examples": ["UTC", "Asia/Shanghai"]})
    }
}

/// Parses an address and port to listen on. Without a host, as in `:8642`, and with `localhost` it
/// is 127.0.0.1.
pub fn parse_listen(text: &str) -> Option<SocketAddr> {
    match text.split_once(':') {
        Some(("" | "localhost", port)) if !port.contains(':') => {
            Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into())
        }
        _ => text.parse().ok(),
    }
}

impl Leaf for SocketAddr {
    const EXPECTED: &'static str = "an address and port like `127.0.0.1:8642`";

    fn parse(text: &str, _kind: Kind) -> Result<Self, Mistake> {
        parse_listen(text).ok_or(Mistake::Type)
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "pattern": r"^.*:\d+$"})
    }
}

impl Leaf for EventTime {
    const EXPECTED: &'static str =
        "an instant since 1970 in UTC like `2026-01-05T12:00:00Z`, or a day";

    fn parse(text: &str, _kind: Kind) -> Result<Self, Mistake> {
        let midnight = format!("{text}T00:00:00Z");
        let time = humantime::parse_rfc3339(text)
            .or_else(|_| humantime::parse_rfc3339(&midnight))
            .map_err(|_| Mistake::Type)?;
        let since = time
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(|_| Mistake::Type)?;
        Ok(Self::from_micros(micros(since)))
    }

    fn plan(&self) -> serde_json::Value {
        json!(self.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d"})
    }
}

/// A scalar with a few possible names.
pub trait Choice: Copy + PartialEq + 'static {
    /// All names, for messages.
    const EXPECTED: &'static str;
    /// Each name and its value.
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> Leaf for T {
    const EXPECTED: &'static str = <T as Choice>::EXPECTED;

    fn parse(text: &str, kind: Kind) -> Result<Self, Mistake> {
        let names = || T::NAMES.iter().map(|(name, _)| *name);
        match T::NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None if kind == Kind::String => {
                let names = unknown(text, names().collect::<Vec<_>>());
                Err(Mistake::Message(format!("unknown value `{text}`{names}")))
            }
            None => Err(Mistake::Type),
        }
    }

    fn plan(&self) -> serde_json::Value {
        let name = T::NAMES.iter().find(|(_, value)| value == self);
        json!(name.map(|(name, _)| *name))
    }

    fn schema() -> Schema {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

//! The parts of a step before its `where` and `select`, each a relation of its own: `<step>.dedupe`
//! ▷ `<step>.bots` ▷ `<step>.rate` ▷ `<step>.sessions`.

use tagflow_config::diagnostic::Position;

use crate::{
    spec::{Setting, Step},
    sql::{Definition, OrderedRule, Part},
};

const DEDUPE: &str = "dedupe";
const BOTS: &str = "bots";
const RATE: &str = "rate";
const SESSIONS: &str = "sessions";

/// The name of the last part of the step `name`, or its input if it has none. Passes the parts to
/// `add`.
pub(super) fn define(name: &str, step: &Step, mut add: impl FnMut(String, Definition)) -> String {
    let mut from = step.from.value().clone();
    let mut stage = |stage: &str, define: &dyn Fn(String) -> Definition| {
        let part = format!("{name}.{stage}");
        add(part.clone(), define(std::mem::replace(&mut from, part)));
    };
    if let Some(dedupe) = &step.dedupe {
        let rule = OrderedRule::Dedupe {
            within: *dedupe.within,
        };
        stage(DEDUPE, &|from| ordered(from, &dedupe.key, rule.clone()));
    }
    if let Some(bots) = &step.flag_bots {
        stage(BOTS, &|from| Definition::Flagged {
            from,
            user_agent: bots.user_agent.as_ref().map(|agent| agent.value().clone()),
            column: bots.column.value().clone(),
        });
        if let Some(rate) = &bots.rate {
            let rule = OrderedRule::Rate {
                over: *rate.over,
                more_than: *rate.more_than,
                flag: bots.column.value().clone(),
            };
            stage(RATE, &|from| ordered(from, &rate.key, rule.clone()));
        }
    }
    if let Some(sessions) = &step.sessions {
        let rule = OrderedRule::Sessions {
            gap: *sessions.gap,
            column: sessions.column.value().clone(),
        };
        stage(SESSIONS, &|from| ordered(from, &sessions.key, rule.clone()));
    }
    from
}

fn ordered(from: String, key: &[Setting<String>], rule: OrderedRule) -> Definition {
    Definition::Ordered {
        from,
        key: key.iter().map(|column| column.value().clone()).collect(),
        rule,
    }
}

/// The position of `part` of the step's part `stage` in the file, and its path.
pub(super) fn place(step: &Step, stage: &str, part: &Part) -> (Position, String) {
    let bots = step.flag_bots.as_ref();
    let (block, key, column) = match stage {
        DEDUPE => ("dedupe", step.dedupe.as_ref().map(|it| &it.key), None),
        RATE => {
            let rate = bots.and_then(|bots| bots.rate.as_ref());
            ("flag_bots.rate", rate.map(|rate| &rate.key), None)
        }
        SESSIONS => {
            let sessions = step.sessions.as_ref();
            let (key, column) = sessions.map(|it| (&it.key, &it.column)).unzip();
            ("sessions", key, column)
        }
        _ => ("flag_bots", None, bots.map(|bots| &bots.column)),
    };
    let (setting, field) = match part {
        Part::Key(index) => (key.and_then(|key| key.get(*index)), "key"),
        Part::Column => (column, "as"),
        Part::UserAgent => (bots.and_then(|it| it.user_agent.as_ref()), "user_agent"),
        _ => return (step.from.at(), block.to_owned()),
    };
    let at = setting.map_or(step.from.at(), Setting::at);
    (at, format!("{block}.{field}"))
}

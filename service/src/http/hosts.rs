//! Checks the host names of requests to the admin endpoint.
//!
//! A page of another site can make a browser on this machine call the endpoint. It does so by its
//! own name, once that resolves to this machine (DNS rebinding), or across origins. Such a request
//! has the other name in `Host` or `Origin`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// The names that requests may use besides `localhost` and addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    /// These names, ignoring case.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(str::to_ascii_lowercase).collect())
    }

    /// Whether a request with these headers may be answered. A request without `Host` is not from a
    /// browser.
    fn allow(&self, headers: &HeaderMap) -> bool {
        let all = |name: HeaderName, host: fn(&str) -> Option<&str>| {
            headers.get_all(name).iter().all(|value| {
                let authority = value.to_str().ok().and_then(host);
                let authority: Option<Authority> = authority.and_then(|it| it.parse().ok());
                authority.is_some_and(|it| self.is_known(it.host()))
            })
        };
        all(header::HOST, |host| Some(host))
            && all(header::ORIGIN, |origin| Some(origin.split_once("://")?.1))
    }

    /// An address is safe, because no other site can let it resolve to this machine.
    fn is_known(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || address.parse::<IpAddr>().is_ok() || self.0.contains(&host)
    }
}

/// Refuses requests with a foreign `Host` or `Origin`.
pub(super) async fn check(
    State(allowed): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    if allowed.allow(request.headers()) {
        return next.run(request).await;
    }
    let message = "the request's `Host` or `Origin` is unknown here; use an address or \
                   `localhost`, or name the host in `admin.allowed_hosts` of the pipeline file\n";
    (StatusCode::FORBIDDEN, message).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allows(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        if let Some(host) = host {
            headers.insert(header::HOST, value(host));
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, value(origin));
        }
        AllowedHosts::new(["Metrics.internal"]).allow(&headers)
    }

    #[test]
    fn regression_only_known_hosts_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8642",
            "localhost.:1",
            "127.0.0.1:8642",
            "10.1.2.3",
            "[::1]:8642",
            "metrics.internal:80",
        ] {
            assert!(allows(Some(host), None), "{host}");
            let origin = format!("http://{host}");
            assert!(allows(Some("127.0.0.1"), Some(&origin)), "{origin}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8642",
            "evil.example:127",
            "metrics.internal.evil.example",
            "a b",
            "",
        ] {
            assert!(!allows(Some(host), None), "{host}");
            let origin = format!("https://{host}");
            assert!(!allows(Some("127.0.0.1"), Some(&origin)), "{origin}");
        }
        assert!(!allows(Some("localhost"), Some("null")));
        assert!(allows(None, None));
    }
}

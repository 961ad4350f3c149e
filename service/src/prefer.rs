//! What a client would like (RFC 7240): how long to wait.

use std::time::Duration;

use http::HeaderMap;

/// `Prefer: wait=SECONDS`, but at most `most`; none when it is absent or cannot be read, as the RFC asks.
pub fn wait(headers: &HeaderMap, most: Duration) -> Option<Duration> {
    let values = headers.get_all("prefer").iter();
    let seconds = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())?;
    Some(Duration::from_secs(seconds).min(most))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_preference_is_read_and_bounded() {
        for (value, seconds) in [
            ("wait=5", Some(5)),
            ("respond-async, wait=3", Some(3)),
            ("Wait=0", Some(0)),
            ("wait=\"7\"", Some(7)),
            ("wait=99999", Some(10)),
            ("wait=-1", None),
            ("wait=soon", None),
            ("return=minimal", None),
        ] {
            let headers =
                HeaderMap::from_iter([("prefer".parse().unwrap(), HeaderValue::from_static(value))]);
            let read = wait(&headers, Duration::from_secs(10));
            assert_eq!(read, seconds.map(Duration::from_secs), "{value}");
        }
    }
}

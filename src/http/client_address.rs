//! Whose connection it is: the peer's address or, behind trusted proxies only, the one they name.

use std::net::{IpAddr, SocketAddr};

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// The client's address. `X-Forwarded-For` (or `Forwarded` where there is none) counts only as far as it was written by
/// `trusted` proxies: it is read from the end, and the first address that is not a trusted one is the client.
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    if !is_trusted(client) {
        return client;
    }
    let mut hops = addresses(headers, &HeaderName::from_static("x-forwarded-for"), |hop| Some(hop));
    if hops.is_empty() {
        hops = addresses(headers, &actix_http::header::FORWARDED, forwarded_for);
    }
    for hop in hops.into_iter().rev() {
        // What can't be read was not written by a proxy of ours: stop at the last address that is sure.
        let Some(ip) = hop else { break };
        client = ip;
        if !is_trusted(client) {
            break;
        }
    }
    client
}

fn addresses(
    headers: &HeaderMap,
    name: &HeaderName,
    address: impl Fn(&str) -> Option<&str> + Copy,
) -> Vec<Option<IpAddr>> {
    headers
        .get_all(name)
        .map(HeaderValue::to_str)
        .flat_map(|value| value.unwrap_or_default().split(','))
        .map(|hop| address(hop).and_then(parse))
        .collect()
}

/// The value of `for=` in one element of `Forwarded` (RFC 7239).
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// An address with or without brackets, quotes and a port.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse().expect("a name"), value.parse().expect("a value"));
        }
        let trusted = ["10.0.0.0/8".parse().expect("a net"), "::1/128".parse().expect("a net")];
        client_ip(peer.parse().expect("an address"), &map, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client("1.2.3.4", &[("x-forwarded-for", "9.9.9.9")]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "9.9.9.9")]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "8.8.8.8, 9.9.9.9, 10.1.1.1")]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "8.8.8.8"), ("x-forwarded-for", "9.9.9.9:80")]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "9.9.9.9, rubbish")]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "2001:db8::1")]), "2001:db8::1");
        assert_eq!(
            client("::1", &[("forwarded", "for=\"[2001:db8::2]:123\";proto=https, for=10.2.2.2")]),
            "2001:db8::2"
        );
        assert_eq!(client("10.0.0.1", &[("forwarded", "for=7.7.7.7"), ("x-forwarded-for", "9.9.9.9")]), "9.9.9.9");
    }

    #[test]
    fn what_a_client_writes_itself_changes_nothing() {
        // A trusted proxy at 10.0.0.1 adds the last element; all before it may be anything.
        for (header, value, seen) in [
            ("x-forwarded-for", "10.0.0.9, 9.9.9.9", "9.9.9.9"),
            ("x-forwarded-for", "127.0.0.1,::1,9.9.9.9", "9.9.9.9"),
            ("x-forwarded-for", "\"10.0.0.9, 9.9.9.9", "9.9.9.9"),
            ("x-forwarded-for", "1.2.3.4, 10.0.0.9, 9.9.9.9, 10.0.0.8", "9.9.9.9"),
            ("x-forwarded-for", ", , ,9.9.9.9", "9.9.9.9"),
            ("x-forwarded-for", "9.9.9.9,", "10.0.0.1"),
            ("x-forwarded-for", "9.9.9.9:99999", "10.0.0.1"),
            ("x-forwarded-for", "999.9.9.9", "10.0.0.1"),
            ("x-forwarded-for", "0x9.9.9.9", "10.0.0.1"),
            ("x-forwarded-for", "::ffff:9.9.9.9", "9.9.9.9"),
            ("x-forwarded-for", "::ffff:10.0.0.9", "10.0.0.9"),
            ("x-forwarded-for", "[2001:db8::1]:443", "2001:db8::1"),
            ("x-forwarded-for", "[2001:db8::1", "10.0.0.1"),
            ("x-forwarded-for", "fe80::1%eth0", "10.0.0.1"),
            ("x-forwarded-for", "9.9.9.9 10.0.0.9", "10.0.0.1"),
            ("x-forwarded-for", "<script>", "10.0.0.1"),
            ("forwarded", "for=9.9.9.9", "9.9.9.9"),
            ("forwarded", "For=\"9.9.9.9:47011\"", "9.9.9.9"),
            ("forwarded", "proto=http;by=10.0.0.1;FOR=9.9.9.9", "9.9.9.9"),
            ("forwarded", "for=10.0.0.9, for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("forwarded", "for=\"10.0.0.9, for=9.9.9.9", "9.9.9.9"),
            ("forwarded", "for=\"10.0.0.9\\\", for=9.9.9.9", "9.9.9.9"),
            ("forwarded", "for=1.2.3.4;host=\"a,b\", for=9.9.9.9;proto=https", "9.9.9.9"),
            ("forwarded", "for=1.2.3.4, for=_hidden", "10.0.0.1"),
            ("forwarded", "for=1.2.3.4, for=unknown", "10.0.0.1"),
            ("forwarded", "for=1.2.3.4, for=\"_gazonk:80\", for=10.0.0.7", "10.0.0.7"),
            ("forwarded", "for=2001:db8::1", "2001:db8::1"),
            ("forwarded", "for=", "10.0.0.1"),
            ("forwarded", "for", "10.0.0.1"),
            ("forwarded", "by=9.9.9.9", "10.0.0.1"),
            ("forwarded", "xfor=9.9.9.9", "10.0.0.1"),
            ("forwarded", ";;;,,,", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[(header, value)]), seen, "{header}: {value}");
            assert_eq!(client("9.8.7.6", &[(header, value)]), "9.8.7.6", "not from a proxy of ours: {value}");
        }
        let many = vec!["1.2.3.4"; 10_000].join(",");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &format!("{many}, 9.9.9.9"))]), "9.9.9.9");
    }
}

//! Which addresses the server may talk to on behalf of people who name them: the public internet, and what the operator
//! allows.
//!
//! Invariant: what is judged is the address that is connected to, after the name was resolved; a name that resolves to
//! several is reached by the allowed ones alone. So neither a name nor a later answer of its DNS leads inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Addresses of one name that are tried.
const TRIED: usize = 4;

/// What may be reached.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Everything, private networks included.
    pub all: bool,
    /// These networks as well.
    pub networks: Vec<IpNet>,
}

/// Nothing that a name stands for may be reached.
#[derive(Debug, thiserror::Error)]
#[error("the address is in a private network")]
pub struct Private;

impl Reach {
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = plain(address);
        self.all || self.networks.iter().any(|network| network.contains(&address)) || is_public(address)
    }

    /// Whether the host of `url`, where it is an address, may be reached. A name is judged when it is resolved.
    ///
    /// # Errors
    /// [`Private`].
    pub fn check(&self, url: &Url) -> Result<(), Private> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Private),
        };
        if self.allows(address) { Ok(()) } else { Err(Private) }
    }
}

/// An IPv4 address in IPv6's clothes as what it is.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The IPv4 address that packets to this one end at, by a translator or a tunnel.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // ::ffff:a.b.c.d and ::ffff:0:a.b.c.d
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        // ::a.b.c.d, but not :: and ::1, which are IPv6's own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        // 64:ff9b::/96, NAT64.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 2002::/16, 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// Whether it is an address of the public internet. IANA's registries of special-purpose addresses say what is not.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocols = a == 192 && b == 0 && c == 0;
            let relays = a == 192 && b == 88 && c == 99;
            let benchmarks = a == 198 && (b == 18 || b == 19);
            !(a == 0
                || a == 127
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_documentation()
                || shared
                || protocols
                || relays
                || benchmarks
                || a >= 224)
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            // Only 2000::/3 is given out; of it not the protocols' own (Teredo among them), nor the documentation's.
            let given_out = first & 0xe000 == 0x2000;
            let protocols = first == 0x2001 && second < 0x200;
            let documentation = (first == 0x2001 && second == 0xdb8) || first == 0x3fff;
            given_out && !protocols && !documentation
        }
    }
}

/// Resolves names by the system, and drops what may not be reached.
pub struct Resolver(pub Arc<Reach>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| reach.allows(address.ip())).take(TRIED).collect();
            if allowed.is_empty() {
                return Err(Private.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn private_addresses_in_all_their_forms_are_out_of_reach() {
        let reach = Reach::default();
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.254",
            "127.0.0.1",
            "127.8.9.10",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!reach.allows(address(text)), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(reach.allows(address(text)), "{text}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_reached() {
        let reach = Reach { all: false, networks: vec!["10.1.0.0/16".parse().expect("a network")] };
        assert!(reach.allows(address("10.1.2.3")) && reach.allows(address("::ffff:10.1.2.3")));
        assert!(!reach.allows(address("10.2.0.1")));
        let all = Reach { all: true, networks: Vec::new() };
        assert!(all.allows(address("127.0.0.1")));
    }

    #[test]
    fn an_address_in_a_url_is_judged_in_every_notation() {
        let reach = Reach::default();
        for text in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://①②⑦.0.0.1/",
            "http://127.0.0.1:80@10.0.0.1/",
        ] {
            let url = Url::parse(text).expect(text);
            assert!(reach.check(&url).is_err(), "{text} is {:?}", url.host());
        }
    }
}

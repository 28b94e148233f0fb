//! Which addresses a destination may have.
//!
//! A destination's address comes from a configuration, and in the end from an operator's or even a customer's
//! input: without a check, whoever may set it could make the hub talk to what only the hub's own network should
//! reach. The check is made on resolved addresses, and exactly those are connected to, so a name that changes its
//! address between check and connection gains nothing.

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use thiserror::Error;
use tower::Service;

/// An address that is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{host}` has the address {address}, which is not a public one: set `allow_private_addresses = true` if it is meant"
)]
pub struct PrivateAddress {
    /// The host as configured.
    pub host: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Whether this is an address of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the IANA registry of special-purpose IPv4 addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0 // this network
        || address.is_private()
        || (a == 100 && (b & 0xc0) == 64) // carrier-grade NAT
        || address.is_loopback()
        || address.is_link_local()
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || address.is_documentation()
        || (a == 192 && b == 88 && c == 99) // relays of 6to4
        || (a == 198 && (b & 0xfe) == 18) // benchmarks
        || a >= 224; // multicast, reserved, broadcast
    !special
}

/// By the IANA registry of special-purpose IPv6 addresses: only what is known to be public is.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        // An IPv4 address in IPv6 clothes counts as what it leads to: mapped, and translated (NAT64).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Protocol assignments, Teredo among them; documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Everything else that is public lies in 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// A resolver that gives only addresses that may be connected to.
#[derive(Clone, Debug)]
pub(super) struct Guarded<R> {
    resolver: R,
    allow_private: bool,
}

impl<R> Guarded<R> {
    pub(super) fn new(resolver: R, allow_private: bool) -> Self {
        Self { resolver, allow_private }
    }
}

type Resolving =
    Pin<Box<dyn Future<Output = Result<std::vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>>> + Send>>;

impl<R> Service<Name> for Guarded<R>
where
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
    R::Future: Send + 'static,
{
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Resolving;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.resolver.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let resolving = self.resolver.call(name);
        let allow_private = self.allow_private;
        Box::pin(async move {
            let all: Vec<SocketAddr> = resolving.await.map_err(Into::into)?.collect();
            let good: Vec<_> = all.iter().copied().filter(|a| allow_private || is_public(a.ip())).collect();
            match (good.is_empty(), all.first()) {
                (true, Some(first)) => Err(PrivateAddress { host, address: first.ip() }.into()),
                _ => Ok(good.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        let private = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ];
        for text in private {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2a00:1450::1",
        ];
        for text in public {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    /// A name server whose answer for each question is given beforehand, as one that rebinds names would do.
    async fn resolve(allow_private: bool, answer: &'static [&'static str]) -> Result<Vec<String>, String> {
        let server = tower::service_fn(move |_: Name| async move {
            let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
            Ok::<_, std::io::Error>(answer.iter().map(address).collect::<Vec<_>>().into_iter())
        });
        let mut guarded = Guarded::new(server, allow_private);
        match guarded.call("shop.example".parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.map(|a| a.ip().to_string()).collect()),
            Err(error) => Err(error.downcast::<PrivateAddress>().unwrap().address.to_string()),
        }
    }

    #[tokio::test]
    async fn only_public_addresses_are_connected_to() {
        assert_eq!(resolve(false, &["8.8.8.8"]).await, Ok(vec!["8.8.8.8".to_owned()]));
        assert_eq!(resolve(false, &["10.0.0.1", "8.8.8.8", "::1"]).await, Ok(vec!["8.8.8.8".to_owned()]));
        assert_eq!(resolve(false, &["10.0.0.1", "::1"]).await, Err("10.0.0.1".to_owned()));
        assert_eq!(resolve(true, &["10.0.0.1", "::1"]).await, Ok(vec!["10.0.0.1".to_owned(), "::1".to_owned()]));
        assert_eq!(resolve(false, &[]).await, Ok(vec![]));
    }
}

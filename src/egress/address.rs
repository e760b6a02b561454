//! Where an address leads: to the internet, into a private network, or to where no notification belongs.
//!
//! Of IPv6 only what is public counts as public, because new special ranges come up outside of it. Addresses in which an IPv4
//! address is wrapped (mapped, compatible, NAT64, 6to4, Teredo) lead nowhere, whatever they wrap: no name of a public service has one.
//! The source is the registry of special-purpose addresses of IANA, and the documents of the clouds for their metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To the internet.
    Public,
    /// To this machine or into a private network: allowed if the operator says so.
    Private,
    /// To metadata of a cloud, to a group, to nobody: never allowed.
    Nowhere,
}

/// The special ranges of IPv4: the first address, the bits that its range has in common, and where it leads.
const IPV4: &[([u8; 4], u32, Leads)] = &[
    ([0, 0, 0, 0], 8, Leads::Nowhere),
    ([10, 0, 0, 0], 8, Leads::Private),
    // Metadata of Alibaba Cloud, within the addresses of carriers.
    ([100, 100, 100, 200], 32, Leads::Nowhere),
    ([100, 64, 0, 0], 10, Leads::Private),
    ([127, 0, 0, 0], 8, Leads::Private),
    // Metadata of Azure, which is no special address by itself.
    ([168, 63, 129, 16], 32, Leads::Nowhere),
    // Link-local, with the metadata of most clouds.
    ([169, 254, 0, 0], 16, Leads::Nowhere),
    ([172, 16, 0, 0], 12, Leads::Private),
    ([192, 0, 0, 0], 24, Leads::Nowhere),
    ([192, 0, 2, 0], 24, Leads::Nowhere),
    ([192, 88, 99, 0], 24, Leads::Nowhere),
    ([192, 168, 0, 0], 16, Leads::Private),
    ([198, 18, 0, 0], 15, Leads::Nowhere),
    ([198, 51, 100, 0], 24, Leads::Nowhere),
    ([203, 0, 113, 0], 24, Leads::Nowhere),
    // Multicast, then what is reserved, with broadcast.
    ([224, 0, 0, 0], 3, Leads::Nowhere),
];

/// The same for IPv6: what is private, and what is not public within 2000::/3.
const IPV6: &[([u16; 8], u32, Leads)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Leads::Private),
    // Teredo, ORCHID, benchmarking and other protocols of the IETF.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Leads::Nowhere),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Leads::Nowhere),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Leads::Nowhere),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Leads::Nowhere),
    ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Leads::Public),
    // Metadata of AWS and of Google Cloud, within the private addresses.
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, Leads::Nowhere),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32, Leads::Nowhere),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Leads::Private),
];

/// Where an address leads.
pub fn leads(address: IpAddr) -> Leads {
    match address {
        IpAddr::V4(address) => {
            let is_within = |first: [u8; 4], bits: u32| {
                (u32::from(address) ^ u32::from(Ipv4Addr::from(first))) >> (32 - bits) == 0
            };
            let special = IPV4.iter().find(|(first, bits, _)| is_within(*first, *bits));
            special.map_or(Leads::Public, |(_, _, leads)| *leads)
        }
        IpAddr::V6(address) => {
            let is_within = |first: [u16; 8], bits: u32| {
                (u128::from(address) ^ u128::from(Ipv6Addr::from(first))) >> (128 - bits) == 0
            };
            let known = IPV6.iter().find(|(first, bits, _)| is_within(*first, *bits));
            known.map_or(Leads::Nowhere, |(_, _, leads)| *leads)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_range_leads_where_it_should_and_its_neighbours_are_public() {
        for (address, expected) in [
            ("0.0.0.0", Leads::Nowhere),
            ("0.255.255.255", Leads::Nowhere),
            ("1.0.0.0", Leads::Public),
            ("9.255.255.255", Leads::Public),
            ("10.0.0.0", Leads::Private),
            ("10.255.255.255", Leads::Private),
            ("11.0.0.0", Leads::Public),
            ("100.63.255.255", Leads::Public),
            ("100.64.0.0", Leads::Private),
            ("100.100.100.200", Leads::Nowhere),
            ("100.127.255.255", Leads::Private),
            ("100.128.0.0", Leads::Public),
            ("127.0.0.1", Leads::Private),
            ("127.255.255.255", Leads::Private),
            ("128.0.0.0", Leads::Public),
            ("168.63.129.16", Leads::Nowhere),
            ("169.253.255.255", Leads::Public),
            ("169.254.0.0", Leads::Nowhere),
            ("169.254.169.254", Leads::Nowhere),
            ("169.254.170.2", Leads::Nowhere),
            ("169.255.0.0", Leads::Public),
            ("172.15.255.255", Leads::Public),
            ("172.16.0.0", Leads::Private),
            ("172.31.255.255", Leads::Private),
            ("172.32.0.0", Leads::Public),
            ("192.0.0.192", Leads::Nowhere),
            ("192.0.1.0", Leads::Public),
            ("192.0.2.1", Leads::Nowhere),
            ("192.88.99.1", Leads::Nowhere),
            ("192.167.255.255", Leads::Public),
            ("192.168.0.1", Leads::Private),
            ("192.169.0.0", Leads::Public),
            ("198.17.255.255", Leads::Public),
            ("198.18.0.0", Leads::Nowhere),
            ("198.19.255.255", Leads::Nowhere),
            ("198.20.0.0", Leads::Public),
            ("198.51.100.7", Leads::Nowhere),
            ("203.0.113.7", Leads::Nowhere),
            ("223.255.255.255", Leads::Public),
            ("224.0.0.1", Leads::Nowhere),
            ("239.255.255.255", Leads::Nowhere),
            ("240.0.0.1", Leads::Nowhere),
            ("255.255.255.255", Leads::Nowhere),
            ("::", Leads::Nowhere),
            ("::1", Leads::Private),
            ("::2", Leads::Nowhere),
            // Compatible, mapped, translated: by NAT64, its local prefix, 6to4, Teredo, ISATAP.
            ("::127.0.0.1", Leads::Nowhere),
            ("::ffff:127.0.0.1", Leads::Nowhere),
            ("::ffff:93.184.216.34", Leads::Nowhere),
            ("::ffff:0:127.0.0.1", Leads::Nowhere),
            ("64:ff9b::a9fe:a9fe", Leads::Nowhere),
            ("64:ff9b:1::a00:1", Leads::Nowhere),
            ("2002:7f00:1::", Leads::Nowhere),
            ("2001::1", Leads::Nowhere),
            ("2001:0:7f00:1::", Leads::Nowhere),
            ("fe80::5efe:7f00:1", Leads::Nowhere),
            ("100::1", Leads::Nowhere),
            ("1fff:ffff::", Leads::Nowhere),
            ("2000::", Leads::Public),
            ("2001:1ff:ffff::", Leads::Nowhere),
            ("2001:200::", Leads::Public),
            ("2001:db8::1", Leads::Nowhere),
            ("2001:db9::1", Leads::Public),
            ("2606:2800:220:1:248:1893:25c8:1946", Leads::Public),
            ("3fff::1", Leads::Nowhere),
            ("3fff:1000::", Leads::Public),
            ("4000::", Leads::Nowhere),
            ("5f00::1", Leads::Nowhere),
            ("fbff::1", Leads::Nowhere),
            ("fc00::1", Leads::Private),
            ("fd00:ec2::254", Leads::Nowhere),
            ("fd20:ce::254", Leads::Nowhere),
            ("fdff:ffff::1", Leads::Private),
            ("fe80::1", Leads::Nowhere),
            ("fec0::1", Leads::Nowhere),
            ("ff02::1", Leads::Nowhere),
        ] {
            assert_eq!(leads(address.parse().unwrap()), expected, "{address}");
        }
    }
}

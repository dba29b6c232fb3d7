// Package natlab builds hosts behind real NATs out of Linux network
// namespaces, for tests that run whole programs against each other.
//
//	A1 A2 --- lan --- [routerA] --- 1.2.10.0/24 ---+
//	B1    --- lan --- [routerB] --- 1.2.20.0/24 ---+-- [inet] --- 1.2.3.0/24 --- R1 R2
//
// A site (one letter, A to P) is a router and the hosts behind it; R1, R2 and
// so on are public servers. A test reads like this:
//
//	lab := natlab.New(t, natlab.Sites{"A": {Kind: natlab.Cone}, "B": {Kind: natlab.Symmetric}}, natlab.Public(1))
//	server := lab.Start(lab.Command(t.Context(), "R1", binary, "serve"))
//	server.WaitFor("listening", 5*time.Second)
//	out := lab.Run(lab.Command(t.Context(), "A1", binary, "ping", lab.IP("R1")))
//	lab.Cut("A")
//
// The NAT is the kernel's. Plain masquerading keeps a source port that is free
// and gives one port to a host's socket whatever the destination (endpoint
// independent mapping); fully-random masquerading takes a new port for every
// destination. Both filter by address and port. A full-cone filter cannot be
// had from nftables. There is no IPv6, no hairpinning and no UPnP in the lab.
//
// Public addresses are 1.2.x.x because libp2p counts the ranges reserved for
// private use and for documentation as not public.
//
// The package needs Linux, root, and the programs ip (iproute2), nft
// (nftables) and conntrack; New skips the test where they are missing, and
// fails it if PARLEY_NATLAB=require is in the environment. On other systems
// the package is empty: tests that use it carry the linux build tag.
//
// It must not touch the machine's own network. All it makes outside of its
// namespaces are the files ip netns wants in /etc/netns/<namespace> and one
// temporary directory, and these go with the lab. What a crashed test process
// left behind is removed by the next one that builds a lab.
package natlab

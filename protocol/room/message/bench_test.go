package message

import "testing"

// What a validator on the topic does for a good message.
func BenchmarkCheck1KiB(b *testing.B) {
	c, m := checker(b, 9), sign(b, inEpoch(9), 1024)
	b.ReportAllocs()
	for b.Loop() {
		_, err := c.Live(start, m)
		check(b, err)
	}
}

// And for the dearest forgery.
func BenchmarkCheckForged1KiB(b *testing.B) {
	c, m := checker(b, 9), sign(b, inEpoch(9), 1024)
	m[headerSize] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Live(start, m); err != ErrForged {
			b.Fatal(err)
		}
	}
}

// And for what is of no epoch that counts.
func BenchmarkCheckPast1KiB(b *testing.B) {
	c, m := checker(b, 9), sign(b, inEpoch(2), 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Live(start, m); err != ErrPast {
			b.Fatal(err)
		}
	}
}

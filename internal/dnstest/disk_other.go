//go:build !linux

package dnstest

import "testing"

// SmallDisk skips the test: a small file system is mounted on Linux only.
func SmallDisk(t testing.TB, _ string, _ int) {
	t.Helper()
	t.Skip("a small file system is made on Linux only")
}

//go:build !linux

package dnstest

import "testing"

// SmallDisk puts a file system of so many octets at path, on Linux. Elsewhere the test is skipped.
func SmallDisk(t testing.TB, _ string, _ int) {
	t.Helper()
	t.Skip("a small file system is made on Linux only")
}

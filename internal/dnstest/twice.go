package dnstest

import (
	"fmt"
	"testing"
)

// RunTwice runs all tests of a package, then calls change, which makes them use another way, and runs them again. It returns the exit code for TestMain.
func RunTwice(m *testing.M, way string, change func()) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	fmt.Println("again,", way)
	change()
	return m.Run()
}

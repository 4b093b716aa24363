//go:build !unix

package main

import "os"

// Nothing is measured where there is no /proc: main says so.
var stopSignal, continueSignal os.Signal = os.Kill, os.Kill

//go:build !unix

package main

import "os"

// Nothing is measured without /proc: main says so.
var stopSignal, continueSignal os.Signal = os.Kill, os.Kill

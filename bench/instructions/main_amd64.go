// Command instructions takes one load through Fast, has callgrind count that alone, and prints nothing:
//
//	go build -o /tmp/instructions ./bench/instructions
//	GOGC=off GODEBUG=asyncpreemptoff=1 valgrind --tool=callgrind --collect-atstart=no /tmp/instructions hit
//
// TestInstructions of package bench runs it.
package main

import (
	"fmt"
	"os"

	"rempart/bench"
)

// toggleCollect makes callgrind start or stop counting the instructions of this thread; without valgrind it does nothing.
func toggleCollect()

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "instructions: name one load")
		os.Exit(2)
	}
	if err := bench.RunLoad(os.Args[1], toggleCollect); err != nil {
		fmt.Fprintln(os.Stderr, "instructions:", err)
		os.Exit(1)
	}
}

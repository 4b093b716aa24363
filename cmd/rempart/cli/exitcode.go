package cli

import "fmt"

// ExitCode is an error that ends the program with that code. The command has already written its output.
type ExitCode int

func (e ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// The exit codes of all commands. Code 0 means that the command worked, and that its answer is positive.
const (
	Negative ExitCode = 1 // the command worked, and its answer is negative: a name is blocked, sets differ, a change was refused or held, a server is behind
	Failure  ExitCode = 2 // the command could not do its work
)

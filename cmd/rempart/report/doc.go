// Package report describes lists, verdicts, counts and times. The greeting, the answers on the local socket and the commands share its texts.
package report

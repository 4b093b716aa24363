// Package operate holds the commands that call the operators' API of a control, and those that work on a control's keys and journal.
package operate

package firstrun

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
)

// dialog asks a person. Without one (--yes) each answer is the default.
type dialog struct {
	in  *bufio.Scanner // nil: nobody answers
	out io.Writer
}

// errEnded is the error of a dialog whose input ended before its questions.
var errEnded = errors.New("the input ended before the last question: nothing more was changed (--yes takes the default answers)")

func newDialog(in io.Reader, out io.Writer, yes bool) *dialog {
	if yes {
		return &dialog{out: out}
	}
	return &dialog{in: bufio.NewScanner(in), out: out}
}

func (d *dialog) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// ask asks for a text until accept returns no error. An empty answer is the default.
func (d *dialog) ask(question, by string, accept func(string) error) (string, error) {
	if d.in == nil {
		err := accept(by)
		if err == nil {
			d.say("%s: %s", question, by)
		}
		return by, err
	}
	for {
		fmt.Fprintf(d.out, "%s [%s]: ", question, by)
		if !d.in.Scan() {
			fmt.Fprintln(d.out)
			return "", errors.Join(errEnded, d.in.Err())
		}
		answer := cmp.Or(strings.TrimSpace(d.in.Text()), by)
		err := accept(answer)
		if err == nil {
			return answer, nil
		}
		d.say("  %v", err)
	}
}

// confirm asks a question that is answered yes or no.
func (d *dialog) confirm(question string, by bool) (bool, error) {
	words := map[string]bool{"y": true, "yes": true, "o": true, "oui": true, "n": false, "no": false, "non": false}
	choices, first := "y/N", "n"
	if by {
		choices, first = "Y/n", "y"
	}
	if d.in == nil {
		return by, nil
	}
	var yes bool
	_, err := d.ask(question+" ("+choices+")", first, func(text string) error {
		known := false
		if yes, known = words[strings.ToLower(text)]; !known {
			return errors.New("answer y or n")
		}
		return nil
	})
	return yes, err
}

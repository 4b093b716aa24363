package firstrun

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rempart/deploy"
)

// catalogue is the text of a feeds file, in parts.
type catalogue struct {
	head  string   // before the first feed
	feeds []string // one feed each, with the comments behind it
}

const feedMark = "[[feed]]\n"

// shippedFeeds returns the feeds that a household can choose.
func shippedFeeds() (catalogue, error) {
	text, err := deploy.Household.ReadFile(feedsFile)
	if err != nil {
		return catalogue{}, err
	}
	return newCatalogue(string(text)), nil
}

func newCatalogue(text string) catalogue {
	parts := strings.Split(text, feedMark)
	return catalogue{parts[0], parts[1:]}
}

// chosenIn returns the feeds that are in the text of a feeds file, in the notation that choose reads.
func (c catalogue) chosenIn(text string) string {
	var numbers []string
	for i, feed := range c.feeds {
		line, _, _ := strings.Cut(feed, "\n")
		name, _, _ := strings.Cut(line, "#")
		if name = strings.TrimSpace(name); strings.Contains("\n"+text, "\n"+name) {
			numbers = append(numbers, strconv.Itoa(i+1))
		}
	}
	switch len(numbers) {
	case 0:
		return "none"
	case len(c.feeds):
		return "all"
	}
	return strings.Join(numbers, ",")
}

// title returns the name of a feed, with its comment.
func (c catalogue) title(i int) string {
	line, _, _ := strings.Cut(c.feeds[i], "\n")
	name, comment, _ := strings.Cut(strings.TrimPrefix(line, "name = "), "#")
	title := strings.Trim(strings.TrimSpace(name), `"`)
	if comment = strings.TrimSpace(comment); comment != "" {
		title += " (" + comment + ")"
	}
	return title
}

// text returns the feeds file with the chosen feeds only.
func (c catalogue) text(chosen []int) string {
	var b strings.Builder
	b.WriteString(c.head)
	for _, i := range chosen {
		b.WriteString(feedMark + strings.TrimRight(c.feeds[i], "\n") + "\n\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// choose reads a choice of feeds: "all", "none", or their numbers from 1 on, separated by commas or spaces.
func (c catalogue) choose(text string) (chosen []int, err error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "all":
		for i := range c.feeds {
			chosen = append(chosen, i)
		}
		return chosen, nil
	case "none":
		return nil, nil
	}
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 || n > len(c.feeds) {
			return nil, fmt.Errorf("%q is not a number from 1 to %d", field, len(c.feeds))
		}
		if !slices.Contains(chosen, n-1) {
			chosen = append(chosen, n-1)
		}
	}
	if chosen == nil {
		return nil, errors.New(`write "all", "none", or some of the numbers`)
	}
	slices.Sort(chosen)
	return chosen, nil
}

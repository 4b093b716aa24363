package pushapi

import (
	"slices"

	"rempart/internal/changeset"
)

// Reach counts the nodes that a change set is for.
func (f *fleet) Reach(set string, to *changeset.Audience) changeset.Reach {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := changeset.Reach{Countries: map[string]bool{}, Operators: map[string]bool{}}
	for name, node := range f.nodes {
		if f.gone(node) {
			continue
		}
		found.Countries[node.Country], found.Operators[node.Operator] = true, true
		if to.IsFor(&node.Status) {
			found.Wanted++
		}
		if to.Reaches(set, name, &node.Status) {
			found.Reached++
		}
	}
	return found
}

// Holders returns the names of the nodes that a change set is for and on which a version of an epoch is in force, in order.
func (f *fleet) Holders(set string, to *changeset.Audience, epoch, version uint64) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := []string{}
	for name, n := range f.nodes {
		if !f.gone(n) && n.holds(epoch, version) && to.Reaches(set, name, &n.Status) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

package journal

import (
	"cmp"
	"slices"

	"rempart/blocklist"
)

// This file holds the rules by which a change, an advance and an expiry alter the operators' claims about a name. State applies them to all names at once, Undoer
// to the history of each name of a change set.

// replaces reports whether no part of an earlier change of the same name, with the given scope, stays in effect where c applies.
func (c *Change) replaces(scope blocklist.Scope) bool {
	return c.Do == Withdraw && c.Scope == "" || cmp.Or(c.Scope, blocklist.Subtree.String()) == scope.String()
}

// overrides reports whether no part of an earlier change stays in effect where c applies.
func overrides(c, earlier Change) bool {
	if c.Name != earlier.Name {
		return false
	}
	scope, _ := blocklist.ParseScope(cmp.Or(earlier.Scope, blocklist.Subtree.String()))
	return c.replaces(scope)
}

// isForAll reports whether a change replaces the operators' claims on all nodes. A withdrawal always does.
func (c *Change) isForAll() bool { return c.AppliesEverywhere() || c.Do == Withdraw }

// renews reports whether no part of an earlier scoped change stays in effect: s applies on every node to which the earlier change applies.
func (s Scoped) renews(o Scoped) bool {
	return s.Share == 0 && overrides(s.Change, o.Change) && slices.Equal(s.Change.Countries, o.Change.Countries) && slices.Equal(s.Change.Operators, o.Change.Operators)
}

// Expired reports whether the change expired by that time (Unix seconds).
func (s Scoped) Expired(at int64) bool { return s.Change.Expiry != 0 && s.Change.Expiry <= at }

// scopedList holds the changes that are in effect on some nodes only, oldest first. Each is newer than the changes for all nodes that it overrides. Methods
// return a new list and leave the receiver unchanged, except add and without.
type scopedList []Scoped

// apply returns the list after changes of a change set, and the changes among them that apply to all nodes.
func (l scopedList) apply(set *ChangeSet, changes ...Change) (after scopedList, all []Change) {
	after = slices.Clone(l)
	for _, c := range changes {
		switch {
		case c.Source != "":
			all = append(all, c)
		case set.Stage == nil && c.isForAll():
			after, all = after.without(c), append(all, c)
		case set.Stage == nil:
			after = after.add(Scoped{ChangeSetID: set.ID, Change: c})
		default:
			after = after.add(Scoped{ChangeSetID: set.ID, Share: set.Stage.Share, Change: c})
		}
	}
	return after, all
}

// advance returns the list after a staged change set was extended to all nodes, and the changes of that change set that now apply to all nodes. Changes that
// were published after the change set still override it.
func (l scopedList) advance(changeSetID string) (after scopedList, all []Change) {
	for _, s := range l {
		switch {
		case s.ChangeSetID != changeSetID || s.Share == 0:
			after = append(after, s)
		case s.Change.isForAll():
			after, all = after.without(s.Change), append(all, s.Change)
		default:
			s.Share = 0
			after = after.add(s)
		}
	}
	return after, all
}

// isStaged reports whether the list holds a change of a change set that is in effect on a share of the nodes.
func (l scopedList) isStaged(changeSetID string) bool {
	return slices.ContainsFunc(l, func(s Scoped) bool { return s.ChangeSetID == changeSetID && s.Share != 0 })
}

// expire returns the list without the changes that expired by that time (Unix seconds). The changes that they overrode are in effect again.
func (l scopedList) expire(at int64) scopedList {
	if !slices.ContainsFunc(l, func(s Scoped) bool { return s.Expired(at) }) {
		return l
	}
	return slices.DeleteFunc(slices.Clone(l), func(s Scoped) bool { return s.Expired(at) })
}

// add appends a change and removes the changes that it renews. It modifies the list, which must belong to the caller.
func (l scopedList) add(s Scoped) scopedList {
	return append(slices.DeleteFunc(l, func(o Scoped) bool { return o.Share == 0 && s.renews(o) }), s)
}

// without returns the part of the list that stays in effect after a change for all nodes. It modifies the list, which must belong to the caller. A withdrawal
// of all scopes of a name is split if the change overrides one scope of it.
func (l scopedList) without(c Change) (left scopedList) {
	if !slices.ContainsFunc(l, func(s Scoped) bool { return s.Change.Name == c.Name }) {
		return l
	}
	whole := func(c Change) bool { return c.Do == Withdraw && c.Scope == "" }
	split := func(s Scoped) bool { return s.Change.Name == c.Name && whole(s.Change) && !whole(c) }
	if !slices.ContainsFunc(l, split) { // the common case
		return slices.DeleteFunc(l, func(s Scoped) bool { return overrides(c, s.Change) })
	}
	for _, s := range l {
		switch {
		case split(s):
			for _, scope := range []blocklist.Scope{blocklist.Exact, blocklist.Subtree, blocklist.Below} {
				part := s
				if part.Change.Scope = scope.String(); !overrides(c, part.Change) {
					left = append(left, part)
				}
			}
		case !overrides(c, s.Change):
			left = append(left, s)
		}
	}
	return left
}

// RemainingScoped returns the changes of now that stay in effect after a large change set. before holds the scoped changes at the time when the change set was
// made: changes published after that override the change set. overriding holds the changes of the change set that replace scoped changes.
func RemainingScoped(now, before []Scoped, overriding []Change) []Scoped {
	known := map[string]bool{}
	for _, s := range before {
		known[s.ChangeSetID] = true
	}
	var older, newer scopedList
	for _, s := range now {
		if known[s.ChangeSetID] {
			older = append(older, s)
		} else {
			newer = append(newer, s)
		}
	}
	for _, c := range overriding {
		older = older.without(c)
	}
	return append(older, newer...)
}

// nameClaims holds the operators' claims about one name after one record.
type nameClaims struct {
	all    []Change   // in effect on all nodes
	scoped scopedList // in effect on some nodes only
}

// apply applies a change of a change set.
func (n *nameClaims) apply(set *ChangeSet, c Change) {
	var all []Change
	n.scoped, all = n.scoped.apply(set, c)
	n.applyToAll(all)
}

// advance extends a staged change set to all nodes.
func (n *nameClaims) advance(changeSetID string) {
	var all []Change
	n.scoped, all = n.scoped.advance(changeSetID)
	n.applyToAll(all)
}

// expire removes the scoped changes that expired by that time (Unix seconds).
func (n *nameClaims) expire(at int64) { n.scoped = n.scoped.expire(at) }

func (n *nameClaims) applyToAll(changes []Change) {
	for _, c := range changes {
		n.all = slices.DeleteFunc(slices.Clone(n.all), func(earlier Change) bool { return overrides(c, earlier) })
		if c.Do != Withdraw {
			n.all = append(n.all, c)
		}
	}
}

// restore calls yield with the changes that make these claims again on a name without operators' claims. It leaves out changes that expired by that time (Unix
// seconds), and changes of a change set that is still staged: a change can name countries and operators, but not a share of the nodes. It returns false if
// yield does.
func (n *nameClaims) restore(at int64, yield func(Change) bool) bool {
	for _, c := range n.all {
		if (c.Expiry == 0 || c.Expiry > at) && !yield(c) {
			return false
		}
	}
	for _, s := range n.scoped.expire(at) {
		if s.Share == 0 && s.Change.Do != Withdraw && !yield(s.Change) {
			return false
		}
	}
	return true
}

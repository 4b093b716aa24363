package pushapi

// AllowNoMore stops the limits of unknown callers from recovering with time: only the calls of the current burst are allowed.
func (a *API) AllowNoMore() {
	a.limits.unknown.SetLimit(0)
	a.limits.orders.SetLimit(0)
}

// AheadFor exports aheadFor.
const AheadFor = aheadFor

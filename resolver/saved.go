package resolver

import "rempart/resolver/cache"

// SaveAnswers passes the cached answers that can still be served to take, until take returns false. Queries are answered meanwhile.
func (r *Resolver) SaveAnswers(take func(cache.Saved) bool) { r.cache.Save(r.now().mono, take) }

// RestoreAnswer adds an answer that another process saved, later seconds ago, to the cache. The targets of the answer are judged when it is first used.
func (r *Resolver) RestoreAnswer(s cache.Saved, later int64) error {
	return r.cache.Restore(s, later, r.now().mono)
}

package main

import (
	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/internal/config"
	"rempart/resolver"
)

// builtIn are the names that let anybody see a block, with no list and no network.
func builtIn() ([]blocklist.Listing, error) {
	var listings []blocklist.Listing
	for _, t := range []struct {
		text     string
		category blocklist.Category
	}{{"malware.test", blocklist.Malware}, {"phishing.test", blocklist.Phishing}} {
		name, err := feed.Name(t.text)
		if err != nil {
			return nil, err
		}
		listings = append(listings, blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: t.category})
	}
	return listings, nil
}

func style(b config.BlockAnswer) resolver.Style {
	return map[config.BlockAnswer]resolver.Style{
		"page": resolver.Page, "nxdomain": resolver.NXDomain, "nodata": resolver.NoData,
		"refused": resolver.Refused, "null": resolver.Null,
	}[b]
}

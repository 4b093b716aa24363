package setup

import (
	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/internal/config"
	"rempart/resolver"
)

// builtInListings returns the listings of test names, with which users can test a block without a list and without a network.
func builtInListings() ([]blocklist.Listing, error) {
	var listings []blocklist.Listing
	for _, t := range []struct {
		text     string
		category blocklist.Category
	}{{"malware.test", blocklist.Malware}, {"phishing.test", blocklist.Phishing}} {
		name, err := format.Name(t.text)
		if err != nil {
			return nil, err
		}
		listings = append(listings, blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: t.category})
	}
	return listings, nil
}

// BlockStyle returns the style of REMPART_BLOCK_ANSWER.
func BlockStyle(b config.BlockAnswer) resolver.Style {
	return map[config.BlockAnswer]resolver.Style{
		"page": resolver.Page, "nxdomain": resolver.NXDomain, "nodata": resolver.NoData,
		"refused": resolver.Refused, "null": resolver.Null,
	}[b]
}

// Canaries returns the canary domains of REMPART_CANARY.
func Canaries(c config.Canary) (all resolver.Canary) {
	if c.Firefox {
		all |= resolver.FirefoxCanary
	}
	if c.ICloud {
		all |= resolver.ICloudCanary
	}
	return all
}

// ParseNames parses the names in the value of a variable.
func ParseNames(variable string, texts []string) (all [][]byte, err error) {
	for _, text := range texts {
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			return nil, config.Bad(variable, text, err.Error())
		}
		if len(name) == 1 {
			return nil, config.Bad(variable, text, "name a zone below the root")
		}
		all = append(all, name)
	}
	return all, nil
}

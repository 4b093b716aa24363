package texts

import "html/template"

// Category describes a kind of threat.
type Category struct {
	Noun string
	Why  string // one sentence: who blocked it, and why
}

// Page holds the texts of the warning page.
type Page struct {
	Title, Heading, Ordered, Requested, Leads, Leave string
	NothingSent                                      string `toml:"nothing_sent"`
	Language                                         string
	Typed                                            string
	TypedIntro                                       string `toml:"typed_intro"`
	Known, Category, Authority, Lists, Decision      string
	Since, Until                                     string
	NoEnd                                            string `toml:"no_end"`
	Mistake                                          string
	MistakeText                                      string `toml:"mistake_text"`
	MistakeLink                                      string `toml:"mistake_link"`
	ContactText                                      string `toml:"contact_text"`
	HomeText                                         string `toml:"home_text"`
	NobodyText                                       string `toml:"nobody_text"`
	OrderLink                                        string `toml:"order_link"`
	OrderAppeal                                      string `toml:"order_appeal"`
	Onward                                           string
	OnwardText                                       string `toml:"onward_text"`
	OnwardLink                                       string `toml:"onward_link"`
	Privacy                                          string
	PortalLink                                       string `toml:"portal_link"`
	FreeTitle                                        string `toml:"free_title"`
	Free                                             string
	FreeText                                         string `toml:"free_text"`
	FreeRetry                                        string `toml:"free_retry"`
}

// Onward holds the texts of the pages that let a reader continue to a blocked site.
type Onward struct {
	Title, Heading, Text, Back, Go string
	OpenTitle                      string `toml:"open_title"`
	OpenHeading                    string `toml:"open_heading"`
	OpenText                       string `toml:"open_text"`
	OpenLink                       string `toml:"open_link"`
	RefusedTitle                   string `toml:"refused_title"`
	RefusedHeading                 string `toml:"refused_heading"`
	RefusedText                    string `toml:"refused_text"`
	Minutes, Hours                 string
}

// Portal holds the texts of the search for a name.
type Portal struct {
	Title, Intro, Label, Hint, Search, Invalid string
	Blocked, Allowed                           string
	AllowedText                                string `toml:"allowed_text"`
	Passes                                     string
	PassesText                                 string `toml:"passes_text"`
	Reserved                                   string
	ReservedText                               string `toml:"reserved_text"`
	Withheld                                   string
	WithheldText                               string `toml:"withheld_text"`
	Observed, Unsure, Busy, Entry, Ground      string
	GroundBlocked                              string `toml:"ground_blocked"`
	GroundCensored                             string `toml:"ground_censored"`
	GroundFiltered                             string `toml:"ground_filtered"`
	Now                                        string
	NowBlocked                                 string `toml:"now_blocked"`
	History                                    string
	HistoryIntro                               string `toml:"history_intro"`
	HistoryBlock                               string `toml:"history_block"`
	HistoryAllow                               string `toml:"history_allow"`
	HistoryWithdraw                            string `toml:"history_withdraw"`
	HistoryNone                                string `toml:"history_none"`
	Version, Footer                            string
}

// Links holds the texts of the links between the pages of the portal.
type Links struct {
	Search     string
	Connection string
	Devices    string
	Statement  string
	Statistics string
}

// Appeal holds the texts of requests for a review.
type Appeal struct {
	Title       string
	Intro       string
	Name        string
	Role        string
	Owner       string
	Visitor     string
	Reason      string
	ReasonHint  string `toml:"reason_hint"`
	Email       string
	EmailHint   string `toml:"email_hint"`
	Send        string
	NameWrong   string `toml:"name_wrong"`
	ReasonWrong string `toml:"reason_wrong"`
	EmailWrong  string `toml:"email_wrong"`
	NotBlocked  string `toml:"not_blocked"`
	Busy        string
	Failed      string
	Received    string
	Keep        string
	Number      string
	Date        string
	Service     string
	Contact     string
	AnswerBy    string `toml:"answer_by"`
	Silence     string
	Routes      string
	State       string
	Open        string
	Second      string
	Upheld      string
	Rejected    string
	Suspended   string
	Decided     string
	Why         string
	Safe        string
	Repaired    string
	Dangerous   string
	Authority   string
	Unclear     string
	Unknown     string
	Proof       string
	ProofText   string `toml:"proof_text"`
	ProofCheck  string `toml:"proof_check"`
	ProofDone   string `toml:"proof_done"`
	ProofFailed string `toml:"proof_failed"`
}

// Connection holds the texts of the page that checks whether a device uses the filter.
type Connection struct {
	Title     string
	Intro     string
	Yes       string
	No        string
	Protected string
	Plain     string
	TLS       string
	HTTPS     string
	QUIC      string
	IPv4      string
	IPv6      string
	Other     string
	Reading   string
	Again     string
	Start     string
	StartText string `toml:"start_text"`
}

// Devices holds the texts of the page about the settings of devices.
type Devices struct {
	Title       string
	Intro       string
	None        string
	Android     string
	AndroidText string `toml:"android_text"`
	Apple       string
	AppleText   string `toml:"apple_text"`
	AppleLink   string `toml:"apple_link"`
	Windows     string
	WindowsText string `toml:"windows_text"`
	Firefox     string
	FirefoxText string `toml:"firefox_text"`
	Chrome      string
	ChromeText  string `toml:"chrome_text"`
	Router      string
	RouterText  string `toml:"router_text"`
	Code        string
	CodeText    string `toml:"code_text"`
}

// Step is one thing to do for a person who was deceived. Link and Label may be empty.
type Step struct {
	Title, Text string
	Link        string // https:, tel:, sms: or mailto:
	Label       string // of the link
}

// SafeLink returns Link for a template. Links are part of the program, or were checked when they were loaded.
func (s Step) SafeLink() template.URL { return template.URL(s.Link) }

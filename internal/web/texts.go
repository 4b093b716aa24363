package web

import "rempart/blocklist"

// kind is the description of a category for the reader.
type kind struct {
	Title string // completes "this site was blocked:"
	Risk  string
}

// texts are the texts of the page in one language.
type texts struct {
	Lang, Title, Heading, NameLabel, KindLabel string
	WhatToDo                                   string
	Advice                                     []string
	Late, LateAdvice                           string
	Wrong, WrongAdvice, WrongNobody            string
	Privacy                                    string
	NotBlocked, NotBlockedText                 string
	RunBy                                      string
	kinds                                      map[blocklist.Category]kind
}

var translations = map[string]texts{
	"fr": {
		Lang: "fr", Title: "Site bloqué", Heading: "Ce site est dangereux. Nous l’avons bloqué.",
		NameLabel: "Adresse demandée", KindLabel: "Motif",
		WhatToDo: "Que faire ?",
		Advice: []string{
			"Fermez cette page. Rien n’a été envoyé au site.",
			"Si un message (SMS, courriel) vous a mené ici, n’y répondez pas et supprimez-le.",
			"Pour joindre votre banque ou un service public, tapez vous-même son adresse.",
		},
		Late:       "Vous y avez déjà saisi un mot de passe ou un numéro de carte ?",
		LateAdvice: "Changez ce mot de passe, prévenez votre banque, et demandez de l’aide sur 17Cyber.gouv.fr.",
		Wrong:      "Ce blocage est une erreur ?", WrongAdvice: "Dites-le-nous :",
		WrongNobody: "Dites-le à qui gère votre accès à Internet : il peut autoriser cette adresse.",
		Privacy:     "Cette page ne dépose aucun cookie et ne garde rien de votre visite.",
		NotBlocked:  "Cette adresse n’est pas sur nos listes", NotBlockedText: "Vous êtes sur la page d’avertissement de Rempart. Ou bien l’adresse demandée n’est plus bloquée : réessayez dans une minute. Ou bien elle mène à une autre, qui l’est : elle reste alors inaccessible.",
		RunBy: "Filtre géré par",
		kinds: map[blocklist.Category]kind{
			blocklist.Malicious:   {"site malveillant", "Il est signalé comme dangereux pour vous ou pour votre appareil."},
			blocklist.Malware:     {"logiciel malveillant", "Il sert à installer sur votre appareil un logiciel qui vole, espionne ou détruit."},
			blocklist.Phishing:    {"hameçonnage", "Il imite un site connu pour voler vos mots de passe ou vos données bancaires."},
			blocklist.Scam:        {"escroquerie", "Il sert à vous soutirer de l’argent : faux vendeur, faux placement, faux support."},
			blocklist.Botnet:      {"réseau de machines piratées", "Il sert à commander à distance des appareils piratés, peut-être le vôtre : faites-le examiner."},
			blocklist.Stalkerware: {"logiciel espion", "Il sert à surveiller quelqu’un à son insu. Si vous pensez l’être, cherchez de l’aide depuis un autre appareil."},
		},
	},
	"en": {
		Lang: "en", Title: "Site blocked", Heading: "This site is dangerous. We blocked it.",
		NameLabel: "Address asked for", KindLabel: "Reason",
		WhatToDo: "What to do",
		Advice: []string{
			"Close this page. Nothing was sent to the site.",
			"If a message (text, e-mail) led you here, do not reply, and delete it.",
			"To reach your bank or a public service, type its address yourself.",
		},
		Late:       "Did you already enter a password or a card number there?",
		LateAdvice: "Change that password, tell your bank, and in France ask for help at 17Cyber.gouv.fr.",
		Wrong:      "Is this block a mistake?", WrongAdvice: "Tell us:",
		WrongNobody: "Tell whoever runs your Internet access: they can allow this address.",
		Privacy:     "This page sets no cookie and keeps nothing of your visit.",
		NotBlocked:  "This address is not on our lists", NotBlockedText: "You are on Rempart’s warning page. Either the address asked for is no longer blocked: try again in a minute. Or it leads to another one that is blocked: then it stays out of reach.",
		RunBy: "Filter run by",
		kinds: map[blocklist.Category]kind{
			blocklist.Malicious:   {"malicious site", "It is reported as dangerous to you or your device."},
			blocklist.Malware:     {"malware", "It is used to install software on your device that steals, spies or destroys."},
			blocklist.Phishing:    {"phishing", "It imitates a site you know to steal your passwords or bank details."},
			blocklist.Scam:        {"scam", "It is used to get money out of you: a fake shop, investment or support desk."},
			blocklist.Botnet:      {"botnet", "It is used to steer devices that were taken over, perhaps yours: have it looked at."},
			blocklist.Stalkerware: {"stalkerware", "It is used to watch over somebody without their knowledge. If that may be you, look for help from another device."},
		},
	},
}

package web

import "rempart/blocklist"

// kind is the description of a category for the reader.
type kind struct {
	Title string // the reason for the block, as a noun
	Risk  string // a sentence
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
		WrongNobody: "Dites-le à la personne ou à l’organisme qui gère votre accès à Internet, et qui peut autoriser cette adresse.",
		Privacy:     "Cette page ne dépose aucun cookie et ne garde rien de votre visite.",
		NotBlocked:  "Cette adresse n’est pas sur nos listes", NotBlockedText: "Vous êtes sur la page d’avertissement de Rempart. Ou bien l’adresse demandée n’est plus bloquée : réessayez dans une minute. Ou bien elle renvoie à une autre adresse, qui est bloquée : elle reste alors inaccessible.",
		RunBy: "Filtre géré par",
		kinds: map[blocklist.Category]kind{
			blocklist.Malicious:   {"site malveillant", "Ce site est signalé comme dangereux pour vous ou pour votre appareil."},
			blocklist.Malware:     {"logiciel malveillant", "Ce site sert à installer sur votre appareil un logiciel qui vole, espionne ou détruit."},
			blocklist.Phishing:    {"hameçonnage", "Ce site imite un site connu pour voler vos mots de passe ou vos données bancaires."},
			blocklist.Scam:        {"escroquerie", "Ce site sert à vous soutirer de l’argent : faux vendeur, faux placement, faux support."},
			blocklist.Botnet:      {"réseau de machines piratées", "Ce site sert à commander à distance des appareils piratés, peut-être le vôtre : faites-le examiner."},
			blocklist.Stalkerware: {"logiciel espion", "Ce site sert à surveiller quelqu’un à son insu. Si vous pensez être surveillé, cherchez de l’aide depuis un autre appareil."},
		},
	},
	"en": {
		Lang: "en", Title: "Site blocked", Heading: "This site is dangerous. We blocked it.",
		NameLabel: "Requested address", KindLabel: "Reason",
		WhatToDo: "What to do",
		Advice: []string{
			"Close this page. Nothing was sent to the site.",
			"If a text message or an e-mail led you here, delete the message and do not reply.",
			"To reach your bank or a public service, type its address yourself.",
		},
		Late:       "Have you already entered a password or a card number on this site?",
		LateAdvice: "Change the password and call your bank. In France, ask for help at 17Cyber.gouv.fr.",
		Wrong:      "Is this block a mistake?", WrongAdvice: "Please contact us:",
		WrongNobody: "Contact the person or organisation that manages your Internet access, who can allow this address.",
		Privacy:     "This page sets no cookies and stores nothing about your visit.",
		NotBlocked:  "This address is not on our lists", NotBlockedText: "You are on Rempart’s warning page. Perhaps the requested address is no longer blocked: try again in a minute. Or the requested address redirects to another address that is blocked: then you cannot reach it.",
		RunBy: "Filter run by",
		kinds: map[blocklist.Category]kind{
			blocklist.Malicious:   {"malicious site", "This site is reported as dangerous to you or your device."},
			blocklist.Malware:     {"malware", "This site is used to infect your device with software that steals, spies or destroys."},
			blocklist.Phishing:    {"phishing", "This site imitates a site that you know, to steal your passwords or bank details."},
			blocklist.Scam:        {"scam", "This site is used to take your money, with a fake shop, a fake investment or fake support."},
			blocklist.Botnet:      {"botnet", "This site is used to control hacked devices, perhaps yours: have your device checked."},
			blocklist.Stalkerware: {"stalkerware", "This site is used to monitor people without their knowledge. If you think that you are monitored, look for help from another device."},
		},
	},
}

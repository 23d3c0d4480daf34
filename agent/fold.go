package agent

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The fold under which what a model wrote is compared with the values that are allowed:
// letter case and Unicode's forms of one character don't count; white space, _ and - are the
// same between words; quotes, brackets, commas, colons and markdown around a word are
// dropped, and full stops and exclamation marks behind it. What may carry meaning stays:
// signs, < and >, ~~struck out~~, question marks, and all that is inside a word.

// fold returns s under the fold. What is nothing but decoration stays as it is.
func fold(s string) string {
	var words []string
	for _, t := range tokens(s) {
		words = append(words, t...)
	}
	if len(words) == 0 {
		return strings.TrimSpace(s)
	}
	return strings.Join(words, " ")
}

// tokens splits s at white space and at the marks around words, and each part into the words
// that _ and - join. A word that begins with a minus keeps it as a first, empty word.
func tokens(s string) [][]string {
	s = cases.Fold().String(norm.NFKC.String(strings.ToValidUTF8(s, "\uFFFD")))
	s = norm.NFKC.String(hyphens.Replace(s))
	var out [][]string
	for _, part := range strings.FieldsFunc(s, separates) {
		part = strings.TrimLeft(part, "*_`'#[({")
		part = strings.TrimRight(part, "*_`'.!])}")
		if strings.Trim(part, "-") == "" { // a bullet or a dash
			continue
		}
		out = append(out, strings.Split(strings.TrimRight(strings.ReplaceAll(part, "_", "-"), "-"), "-"))
	}
	return out
}

var hyphens = strings.NewReplacer("’", "'", "‘", "'", "‐", "-", "−", "-")

func separates(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune(",;:|\"“”„«»–—、。", r)
}

// value is one that is allowed.
type value struct {
	text   string   // canonical
	folded string   // under the fold
	words  []string // of it
	plain  bool     // it may be looked for in a sentence
}

func newValue(text string) value {
	v := value{text: text, folded: fold(text)}
	for _, t := range tokens(text) {
		v.words = append(v.words, t...)
	}
	v.plain = len(v.words) > 0 && !small[v.folded] &&
		utf8.RuneCountInString(v.folded) > 1 && strings.ContainsFunc(v.folded, unicode.IsLetter)
	return v
}

// maxSentence is how many words a text may have in which a value is looked for.
const maxSentence = 100

// mentioned returns the one value that a text mentions, as a whole word or words, or ""
// and why there is none: none or more than one occurs, or some word casts doubt on it.
func mentioned(text string, values []value) (found, why string) {
	if strings.ContainsAny(text, "?？¿؟") || strings.Contains(text, "[ ]") || strings.ContainsFunc(text, spaceless) {
		return "", "it is not one of the values"
	}
	type word struct {
		text       string
		first, end bool // of its token
		taken      bool // part of a value
	}
	var words []word
	for _, t := range tokens(text) {
		for i, w := range t {
			words = append(words, word{text: w, first: i == 0, end: i == len(t)-1})
		}
	}
	if len(words) > maxSentence {
		return "", "it is too long to be one of the values"
	}
	for at := 0; at < len(words); {
		var best *value // the longest that begins here: feature request, not feature
		for i := range values {
			v := &values[i]
			n := len(v.words)
			if !v.plain || at+n > len(words) || best != nil && n <= len(best.words) || !words[at].first || !words[at+n-1].end {
				continue
			}
			same := true
			for j, w := range v.words {
				same = same && words[at+j].text == w
			}
			if same {
				best = v
			}
		}
		if best == nil {
			at++
			continue
		}
		if found != "" && found != best.text {
			return "", "it names more than one of the values"
		}
		found = best.text
		for range best.words {
			words[at].taken = true
			at++
		}
	}
	if found == "" {
		return "", "it is not one of the values"
	}
	for _, w := range words {
		if !w.taken && doubtful(w.text) {
			return "", "it can be read in more than one way"
		}
	}
	return found, ""
}

func doubtful(word string) bool {
	return doubts[word] || strings.HasSuffix(word, "n't") || strings.ContainsAny(word, "~❌✗✘🚫⛔👎≠!")
}

// spaceless tells letters of scripts that put no space between words: there a whole word can't
// be told from a part of one.
func spaceless(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// doubts are words that may turn the meaning of a sentence round, or say that it is open.
var doubts = set(`not no non never none neither nor nothing without cannot cant dont doesnt didnt isnt wasnt arent wont wouldnt
	shouldnt couldnt aint instead rather except unless excluding excludes exclude but however although though if whether either or
	versus vs unsure uncertain unclear unknown maybe perhaps possibly might could may unlikely hardly barely false untrue wrong
	incorrect ruled rule reject rejected far besides apart opposite contrary unrelated irrelevant lack lacks absent nobody rarely seldom
	nicht kein keine keinen keiner nie ohne sondern oder pas ne sans jamais ni ou nunca ningún ninguna sin tampoco não nao nem sem
	geen niet nooit zonder inte ingen ikke aldrig ei ej nie bez nem değil yok nu fără δεν не нет ни без لا ليس لم לא नहीं không
	tidak bukan`)

// small are words that occur in sentences without being meant as a value.
var small = set(`a an the i it is as at by be do go he if in me my no of on or so to up us we am are was and any all can did for had
	has her him his how its may new not now off old one our out per say see she the too two use was way who why yes you that this
	with will would have been from here there these those what when which them then than they true false other none never nor neither nothing else some such same only`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[cases.Fold().String(norm.NFKC.String(w))] = true
	}
	return m
}

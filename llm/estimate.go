package llm

// What a request costs in tokens beside its texts, rounded up from what providers'
// documents and answers tell.
const (
	tokensPerMessage = 8   // role and separators
	tokensForTools   = 700 // the provider's own instructions about calling tools
	tokensForSchema  = 300 // and those about answering in JSON
)

// EstimateInput returns how many tokens a request may be, before anybody has counted them.
// It is meant for reserving money, so it errs upwards: for English, German and code it
// says about twice what OpenAI's tokenizers count, for other scripts three times and more.
// See docs/models.md for what was measured.
//
// It counts bytes: two letters or spaces of ASCII for a token, and one of any other byte.
// That no tokenizer in use makes more than a token of a byte is what the latter rests on;
// the former is no bound for texts made up against it: of letters in no order at all there
// are up to a quarter more tokens than it says.
func EstimateInput(r *Request) int {
	n := tokensIn(r.System) + tokensPerMessage
	for i := range r.Messages {
		m := &r.Messages[i]
		n += tokensIn(m.Content) + tokensIn(m.ToolCallID) + tokensPerMessage
		n += tokensIn(string(m.Turn)) // says the text again, but may be what is sent
		for _, c := range m.ToolCalls {
			n += tokensIn(c.ID) + tokensIn(c.Name) + tokensIn(c.Arguments) + tokensPerMessage
		}
	}
	if len(r.Tools) > 0 {
		n += tokensForTools
	}
	for _, t := range r.Tools {
		n += tokensIn(t.Name) + tokensIn(t.Description) + tokensIn(string(t.Parameters)) + tokensPerMessage
	}
	if r.Schema != nil {
		n += tokensIn(r.Schema.Name) + tokensIn(r.Schema.Description) + tokensIn(string(r.Schema.JSON)) + tokensForSchema
	}
	return n
}

// EstimateEmbedInput is [EstimateInput] of a request for vectors.
func EstimateEmbedInput(r *EmbedRequest) int {
	n := 0
	for _, text := range r.Input {
		n += tokensIn(text) + tokensPerMessage
	}
	return n
}

func tokensIn(s string) int {
	halves := 0
	for i := range len(s) {
		if b := s[i]; b == ' ' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' {
			halves++
		} else {
			halves += 2
		}
	}
	return (halves + 1) / 2
}

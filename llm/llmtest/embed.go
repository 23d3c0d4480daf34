package llmtest

import (
	"cmp"
	"context"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/pawlrun/pawl/llm"
)

// DefaultDimensions is the length of the vectors of [Scripted.Embed] if none is asked for.
const DefaultDimensions = 256

// Embed returns [Vector] of each input. See [llm.Embedder].
func (s *Scripted) Embed(ctx context.Context, req *llm.EmbedRequest) (*llm.EmbedResponse, error) {
	if err := req.Validate(); err != nil {
		return nil, badRequest(req.Model, err.Error())
	}
	kept := *req
	kept.Input = slices.Clone(req.Input)
	s.mu.Lock()
	s.embeds = append(s.embeds, kept)
	s.mu.Unlock()
	if err := pause(ctx, req.Model, 0); err != nil {
		return nil, err
	}
	res := &llm.EmbedResponse{Provider: ProviderName, Model: ModelName}
	for _, text := range req.Input {
		res.Vectors = append(res.Vectors, Vector(text, cmp.Or(req.Dimensions, DefaultDimensions)))
		res.Usage.Input += words(text)
	}
	return res, nil
}

// stopWords are so common that texts which share only these have nothing in common.
var stopWords = strings.Fields("a an and are as at be by can do for from how i in is it my of on or that the this to we what when where which who with you your")

// Vector returns a vector of length 1 whose nearness to another's, by dot product or
// cosine, tells how many words and beginnings of words two texts share, whatever their
// order, case and plural. The same text has the same vector everywhere and always. A text without
// words gets the first axis. dims must be positive.
//
// It is enough to find the paragraph that speaks of refunds when asked about a refund. It
// does not know that money back is a refund.
func Vector(text string, dims int) []float32 {
	sums := make([]float64, dims)
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for _, word := range words {
		if slices.Contains(stopWords, word) {
			continue
		}
		if len(word) > 3 {
			word = strings.TrimSuffix(word, "s")
		}
		add(sums, word, 1)
		if letters := []rune(word); len(letters) > 4 {
			add(sums, string(letters[:4])+"-", 0.7) // refund and refunded begin alike
		}
	}
	var square float64
	for _, v := range sums {
		square += v * v
	}
	if square == 0 {
		sums[0], square = 1, 1
	}
	out := make([]float32, dims)
	for i, v := range sums {
		out[i] = float32(v / math.Sqrt(square))
	}
	return out
}

// add puts weight on the axis that feature hashes to. The sign, also hashed, makes
// features that meet on an axis by chance cancel out as often as they add up.
func add(sums []float64, feature string, weight float64) {
	h := fnv.New64a()
	h.Write([]byte(feature))
	n := h.Sum64()
	if n>>63 == 1 {
		weight = -weight
	}
	sums[n%uint64(len(sums))] += weight
}

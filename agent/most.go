package agent

import "cmp"

const (
	// moreRoom is how often an answer that was cut off is asked for again, with twice as many tokens each time.
	moreRoom       = 2
	defaultRepairs = 2
	defaultTurns   = 20
	// stepAttempts is how often a step that asks a model is tried where nobody says otherwise.
	stepAttempts = 8
	defaultRoom  = 4096 // tokens
)

// Most is what asking may take, before anything is known of the answers. Its numbers are reached, if ever, where all goes wrong
// that can be mended.
type Most struct {
	Calls  int   // of one model
	Tokens int64 // of all their answers
}

// Most is what one attempt of the call takes at most of each model that it names: an answer that is cut off is asked for again,
// and one that is not of the shape is mended. An attempt asks the fallbacks too, each as often; the step's attempts come on top.
func (q *Call) Most() Most {
	repairs := q.repairs()
	if q.Shape == nil && q.Check == nil {
		repairs = 0 // any text does
	}
	first := int64(q.Room())
	m := Most{Calls: 1 + moreRoom + repairs}
	for range moreRoom { // it is most if the room grows first
		m.Tokens += first
		first *= 2
	}
	m.Tokens += first * int64(1+repairs)
	return m
}

func (q *Call) repairs() int {
	if q.Repairs != nil {
		return *q.Repairs
	}
	return defaultRepairs
}

// Room is how many tokens the answer may have at first.
func (q *Call) Room() int {
	most := q.MaxTokens
	if q.Shape != nil {
		most = cmp.Or(most, q.Shape.MaxTokens())
	}
	return cmp.Or(most, defaultRoom)
}

// MostOfTurn is what one turn takes at most of each model, with all attempts of its step.
func (c *Config) MostOfTurn() Most {
	q := Call{Shape: c.Shape, MaxTokens: c.MaxTokens}
	m := q.Most()
	return Most{Calls: stepAttempts * m.Calls, Tokens: stepAttempts * m.Tokens}
}

// Turns is how often the model is asked at most.
func (c *Config) Turns() int { return cmp.Or(c.MaxTurns, defaultTurns) }

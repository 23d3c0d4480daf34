package content

import (
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl/llm"
)

const draftSystem = `You write short articles for the readers you are told of, in their
words. Begin with what they get out of it. Invent no facts and no quotes. The title has at
most 12 words; the body is Markdown without a title, 200 to 400 words.`

const reviseSystem = `You revise an article after a reviewer's comment. Do what the comment
asks and leave the rest as it is. The title has at most 12 words; the body is Markdown
without a title.`

var draftSchema = &llm.Schema{Name: "draft", JSON: json.RawMessage(`{
	"type": "object",
	"properties": {"title": {"type": "string"}, "body": {"type": "string"}},
	"required": ["title", "body"],
	"additionalProperties": false
}`)}

func (p *pipeline) draftRequest(in Input) llm.Request {
	return llm.Request{
		Model: p.Name, System: draftSystem, Schema: draftSchema,
		Messages: []llm.Message{llm.User(fmt.Sprintf("Topic: %s\nAudience: %s", in.Topic, in.Audience))},
	}
}

func (p *pipeline) reviseRequest(in Input, d Article, comment string) llm.Request {
	return llm.Request{
		Model: p.Name, System: reviseSystem, Schema: draftSchema,
		Messages: []llm.Message{llm.User(fmt.Sprintf("Topic: %s\nAudience: %s\nComment: %s\n\n# %s\n\n%s",
			in.Topic, in.Audience, comment, d.Title, d.Body))},
	}
}

// Says what others say, so that tests compare Slipway with them and not with itself: the verdicts of kstatus on objects,
// and those of cel-go on expressions.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

const usage = "usage: verdicts kstatus objects.yaml > verdicts.json, or verdicts cel expressions.yaml > verdicts.json"

func main() {
	if len(os.Args) != 3 {
		fail(usage)
	}
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		fail(err)
	}
	var verdicts any
	switch os.Args[1] {
	case "kstatus":
		verdicts = objects(text)
	case "cel":
		verdicts = expressions(text)
	default:
		fail(usage)
	}
	out, err := json.MarshalIndent(verdicts, "", "  ")
	if err != nil {
		fail(err)
	}
	fmt.Println(string(out))
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

// The status of each object, by the case's name; "Unknown" where kstatus answers with an error.
func objects(text []byte) map[string]string {
	var cases []struct {
		Name   string
		Object json.RawMessage
	}
	if err := yaml.Unmarshal(text, &cases); err != nil {
		fail(err)
	}
	verdicts := map[string]string{}
	for _, one := range cases {
		var object unstructured.Unstructured
		// Its own decoder makes whole numbers integers, as the API machinery has them.
		if err := object.UnmarshalJSON(one.Object); err != nil {
			fail(fmt.Errorf("%s: %w", one.Name, err))
		}
		result, err := status.Compute(&object)
		if err != nil {
			verdicts[one.Name] = string(status.UnknownStatus)
			continue
		}
		verdicts[one.Name] = string(result.Status)
	}
	return verdicts
}

// What each expression is over the object at the top of the file: "true", "false", "error", or "refused" where it is
// not an expression. The environment is that of Flux's health checks.
func expressions(text []byte) map[string]string {
	var file struct {
		Object      json.RawMessage
		Expressions []string
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		fail(err)
	}
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(file.Object); err != nil {
		fail(err)
	}
	environment, err := cel.NewEnv(
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(), ext.Sets(), ext.Encoders(),
	)
	if err != nil {
		fail(err)
	}
	verdicts := map[string]string{}
	for _, expression := range file.Expressions {
		verdicts[expression] = evaluate(environment, expression, object.UnstructuredContent())
	}
	return verdicts
}

func evaluate(environment *cel.Env, expression string, object map[string]any) string {
	parsed, issues := environment.Parse(expression)
	if issues.Err() != nil {
		return "refused"
	}
	program, err := environment.Program(parsed)
	if err != nil {
		return "refused"
	}
	value, _, err := program.Eval(object)
	if err != nil {
		return "error"
	}
	if truth, ok := value.(types.Bool); ok {
		return fmt.Sprint(bool(truth))
	}
	return "error"
}

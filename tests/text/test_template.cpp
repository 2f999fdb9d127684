// Chat templates against Jinja2: what each construct gives, what is refused, and where rendering ends.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include "experiments/base/file.h"
#include "experiments/text/chat_template.h"
#include "graph/error.h"
#include "tests/support/folder.h"
#include "tests/support/mutate.h"

using namespace surtsey;
using namespace surtsey::experiments;
using namespace surtsey::experiments::text;
using Catch::Matchers::ContainsSubstring;
using nlohmann::ordered_json;

namespace {

std::string render(const std::string& source, const ordered_json& variables = ordered_json::object()) {
  return ChatTemplate(source, "test.jinja").render(variables, {"26 Jul 2024"});
}

const ordered_json kMessages = {
    {"messages", {{{"role", "user"}, {"content", " Hi "}}, {{"role", "assistant"}, {"content", "Yo"}}}}};

}  // namespace

TEST_CASE("templates give what Jinja2 gives", "[text]") {
  struct Case {
    const char* source;
    const char* expected;
  };
  // Expected texts are Jinja2 3.1's, with trim_blocks and lstrip_blocks.
  const std::vector<Case> cases = {
      {"a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"},
      {"x {%- if true -%} y {%- endif %} z", "xy z"},
      {"{# c #}\nx{{ 1 }}\ny", "x1\ny"},
      {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
      {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 1e20 }}", "3 -4 2 3.5 1024 1e+20"},
      {"{{ [1, 'a', none, true, 1.0] }} {{ (1,) }} {{ {'k': \"it's\"} }}",
       "[1, 'a', None, True, 1.0] (1,) {'k': \"it's\"}"},
      {"{{ 'ab' ~ 1 * 2 }}", "ab2"},
      {"{{ 'abcdef'[1:4] }}{{ 'abc'[::-1] }}{{ [1,2,3][-1] }}", "bcdcba3"},
      {"{{ 'x' if false }}|{{ 'a' if 1 else 'b' }}", "|a"},
      {"{{ 1 < 2 < 3 }} {{ 'a' in 'cat' }} {{ 2 not in [1] }} {{ not true }}", "True True True False"},
      {"{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "3"},
      {"{% set x = 1 %}{% for i in [5] %}{% set x = i %}{% endfor %}{{ x }}", "1"},
      {"{% for i in [1,2,3,4] if i % 2 == 0 %}{{ loop.index }}:{{ i }}{{ ',' if not loop.last }}{% endfor %}",
       "1:2,2:4"},
      {"{% for i in [] %}x{% else %}none{% endfor %}", "none"},
      {"{% for i in range(9) %}{% if i == 3 %}{% break %}{% elif i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
       "02"},
      {"{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "a1b2"},
      {"{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ m(1) }}{{ m(a=3, b=4) }}"
       "{% call m(5) %}!{% endcall %}",
       "123452!"},
      {"{% set x %} b {% endset %}{{ x|trim }}{% filter upper %}q{% endfilter %}", "bQ"},
      {"{% generation %}g{% endgeneration %}", "g"},
      {"{{ {'b': [1, {}], 'a': '<é\"'} | tojson }}", "{\"b\": [1, {}], \"a\": \"<é\\\"\"}"},
      {"{{ {'a': [1, 2]} | tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    2\n  ]\n}"},
      {"{{ [3, 1, 2]|sort|join(', ') }} {{ 'a b c'.split()|last }} {{ 'x'|default('y') }}{{ z|default('y') }}",
       "1, 2, 3 c xy"},
      {"{{ [{'a': 1}, {'a': 2}]|selectattr('a', 'equalto', 2)|map(attribute='a')|list }}", "[2]"},
      {"{{ none|selectattr('a')|list }} {{ {'b': 1, 'a': 2}|dictsort }}", "[] [('a', 2), ('b', 1)]"},
      {"{{ 'hello world'|title }} {{ 'a-b'.replace('-', '+') }} {{ '%s=%.2f'|format('x', 1.5) }} {{ '{}-{b}'.format(1, "
       "b=2) }}",
       "Hello World a+b x=1.50 1-2"},
      {"{{ 'a\nb'|indent(2) }}|{{ 3.7|int }} {{ '5'|int }} {{ 2.5|round }} {{ -3|abs }}", "a\n  b|3 5 2.0 3"},
      {"{{ x is defined }} {{ none is none }} {{ 1 is number }} {{ 'a' is string }} {{ {} is mapping }} {{ 3 is odd }}",
       "False True True True True True"},
      {"{{ missing }}|{{ {}.x }}|{{ missing is iterable }}{{ missing|length }}", "||True0"},
      {"{{ '  x '.strip() }}{{ 'xxa'.lstrip('x') }}{{ 'abc'.startswith('a') }}{{ 'a,b,c'.rsplit(',', 1) }}",
       "xaTrue['a,b', 'c']"},
      {"{% set a, b = 1, 2 %}{{ a }}{{ b }}{% with c = 3 %}{{ c }}{% endwith %}{{ c }}", "123"},
      {"{{ strftime_now('%Y') }}", "26 Jul 2024"},
  };
  for (const Case& item : cases) {
    CAPTURE(item.source);
    CHECK(render(item.source) == item.expected);
  }
  const std::string chat =
      "{{ bos_token }}{% for message in messages %}{{ '<' + message['role'] + '>' + message.content | trim }}{% endfor "
      "%}";
  CHECK(render(chat, kMessages) == "<user>Hi<assistant>Yo");
}

TEST_CASE("templates that do not work say where and why", "[text]") {
  const auto fails = [](const std::string& source, const std::string& message) {
    CAPTURE(source);
    CHECK_THROWS_WITH(render(source), ContainsSubstring(message));
  };
  fails("a\n{% extends 'x' %}", "test.jinja:2: the tag 'extends' is not supported");
  fails("\n\n{{ x|xmlattr }}", "test.jinja:3: the filter 'xmlattr' is not supported");
  fails("{{ 1 is wild }}", "the test 'wild' is not supported");
  fails("{{ raise_exception('roles must alternate') }}", "test.jinja:1: the template says: roles must alternate");
  fails("{{ functions.x }}", "'functions' is undefined");
  fails("{% if x %}", "{% endif %} is missing");
  fails("{{ 'a' + 1 }}", "a string + an integer");
  fails("{{ 1", "is not closed by }}");
  fails("{{ 9223372036854775807 + 1 }}", "does not fit");
}

TEST_CASE("a template ends, however much it wants", "[text]") {
  const auto ends = [](const std::string& source) {
    CAPTURE(source);
    CHECK_THROWS_AS(render(source), UserError);
  };
  ends("{% for i in range(100000000) %}{% endfor %}");
  ends("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}");
  ends("{% set ns = namespace(x='aaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}");
  ends("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}");
  ends("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
  ends("{{ 'x' * 1000000000000 }}");
  ends("{{ '%999999999d'|format(1) }}");
  ends("{% set l = [] %}{{ l.append(l) }}{{ l }}");
  ends("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}");
  ends("{{ " + std::string(100000, '-') + "1 }}");
}

TEST_CASE("the templates of a folder are found", "[text]") {
  const tests::Folder folder;
  write_file_atomic(folder / "tokenizer_config.json",
                    R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>",
                        "chat_template": [{"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"},
                                          {"name": "tool", "template": "T{{ eos_token }}"}]})");
  CHECK(load_chat_template(folder.path()).render(kMessages) == "<b> Hi ");
  CHECK(load_chat_template(folder.path(), "tool").render(kMessages) == "T<e>");
  CHECK_THROWS_WITH(load_chat_template(folder.path(), "rag"), ContainsSubstring("there are default, tool"));
  write_file_atomic(folder / "chat_template.jinja", "J");
  CHECK(load_chat_template(folder.path()).render(kMessages) == "J");
  const tests::Folder empty;
  CHECK_THROWS_WITH(load_chat_template(empty.path()), ContainsSubstring("there is no chat template"));
}

TEST_CASE("mutated templates are rendered or refused", "[text][fuzz]") {
  const std::string source =
      "{%- set ns = namespace(found=false) -%}\n{% macro show(m) %}{{ m.role|upper }}: {{ m['content'] | trim }}\n"
      "{% endmacro %}{% for message in messages if message.role != 'x' %}{% if loop.first and not ns.found %}\n"
      "{{ bos_token|default('<s>') }}{% set ns.found = true %}{% endif %}{{ show(message) }}{% endfor %}"
      "{{ messages | tojson(indent=2) }}{% if add_generation_prompt is defined %}{{ '<|a|>' ~ '\\n' }}{% endif %}";
  REQUIRE(render(source, kMessages).starts_with("<s>USER: Hi\nASSISTANT: Yo\n["));
  tests::Draw draw(3);
  int errors = 0, results = 0;
  for (int i = 0; i < 500; ++i) {
    try {
      render(tests::mutated(source, tests::template_words(), draw), kMessages);
      ++results;
    } catch (const UserError& error) {
      CHECK(std::string(error.what()).starts_with("test.jinja"));
      ++errors;
    }
  }
  CHECK(errors > 0);
  CHECK(results > 0);
}

#include "experiments/text/decoders.h"

#include <nlohmann/json.hpp>

#include <array>
#include <charconv>

#include "experiments/base/utf8.h"
#include "experiments/text/byte_level.h"
#include "experiments/text/normalizers.h"
#include "experiments/text/pre_tokenizers.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

using Tokens = std::vector<std::string>;

void fuse(Tokens& tokens) {
  std::string whole;
  for (const std::string& token : tokens) whole += token;
  tokens.assign(1, std::move(whole));
}

// `<0x41>` as the byte it stands for, -1 for any other token.
int byte_of_token(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return error == std::errc() && end == token.data() + 5 ? int(value) : -1;
}

// Runs of byte tokens as characters; a run that is not UTF-8 becomes a U+FFFD for each of its bytes.
void join_bytes(Tokens& tokens) {
  Tokens result;
  std::string run;
  const auto end_run = [&] {
    if (run.empty()) return;
    size_t at = 0;
    while (at < run.size() && code_point_at(run, at).length > 0) at += code_point_at(run, at).length;
    if (at == run.size()) {
      result.push_back(run);
    } else {
      result.insert(result.end(), run.size(), kReplacementText);
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    const int byte = byte_of_token(token);
    if (byte >= 0) {
      run += static_cast<char>(byte);
      continue;
    }
    end_run();
    result.push_back(std::move(token));
  }
  end_run();
  tokens = std::move(result);
}

// At most `start` of these characters from the front of each token, and `stop` from its end.
Decoder strip(std::string content, int64_t start, int64_t stop) {
  return [=](Tokens& tokens) {
    for (std::string& token : tokens) {
      size_t begin = 0, end = token.size();
      for (int64_t i = 0; i < start && begin < end && token.compare(begin, content.size(), content) == 0; ++i) {
        begin += content.size();
      }
      for (int64_t i = 0; i < stop && end >= begin + content.size() &&
                          token.compare(end - content.size(), content.size(), content) == 0;
           ++i) {
        end -= content.size();
      }
      token = token.substr(begin, end - begin);
    }
  };
}

// Blanks that English does not have; in the library's order, which matters.
void clean_up(std::string& text) {
  static constexpr std::array<std::pair<const char*, const char*>, 11> kRules = {{
      {" .", "."},
      {" ?", "?"},
      {" !", "!"},
      {" ,", ","},
      {" ' ", "'"},
      {" n't", "n't"},
      {" 'm", "'m"},
      {" do not", " don't"},
      {" 's", "'s"},
      {" 've", "'ve"},
      {" 're", "'re"},
  }};
  for (const auto& [dirty, clean] : kRules) replace_all(text, dirty, clean);
}

Decoder metaspace_decoder(const Fields& fields) {
  std::string replacement;
  append_utf8(replacement, fields.character("replacement"));
  const bool never = read_prepend_scheme(fields) == PrependScheme::never;
  return [=](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], replacement, i == 0 && !never ? "" : " ");
  };
}

Decoder bpe_decoder(const Fields& fields) {
  return [suffix = fields.text("suffix", "</w>")](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
  };
}

Decoder replace(const Fields& fields) {
  const std::string content = fields.text("content");
  const Fields given = fields.at("pattern");
  if (given.has("String")) {
    return [old_part = given.text("String"), content](Tokens& tokens) {
      for (std::string& token : tokens) replace_all(token, old_part, content);
    };
  }
  return [pattern = read_pattern(fields, "pattern"), content](Tokens& tokens) {
    for (std::string& token : tokens) replace_matches(token, pattern, content);
  };
}

Decoder sequence(std::vector<Decoder> steps) {
  return [steps = std::move(steps)](Tokens& tokens) {
    for (const Decoder& step : steps) step(tokens);
  };
}

Decoder decoder_sequence(const Fields& fields) {
  std::vector<Decoder> steps;
  for (const Fields& step : fields.list("decoders")) steps.push_back(read_decoder(step));
  return sequence(std::move(steps));
}

constexpr std::array<FieldsReader<Decoder>, 9> kDecoders = {{
    {"Sequence", decoder_sequence},
    {"ByteLevel", [](const Fields&) { return byte_level_decoder(); }},
    {"WordPiece",
     [](const Fields& fields) { return wordpiece_decoder(fields.text("prefix", "##"), fields.flag("cleanup", true)); }},
    {"Metaspace", metaspace_decoder},
    {"BPEDecoder", bpe_decoder},
    {"Replace", replace},
    {"ByteFallback", [](const Fields&) -> Decoder { return join_bytes; }},
    {"Fuse", [](const Fields&) -> Decoder { return fuse; }},
    {"Strip",
     [](const Fields& fields) {
       std::string content;
       append_utf8(content, fields.character("content"));
       return strip(content, fields.integer("start", 0, 1 << 20), fields.integer("stop", 0, 1 << 20));
     }},
}};

}  // namespace

Decoder byte_level_decoder() {
  return [](Tokens& tokens) {
    std::string bytes;
    for (const std::string& token : tokens) bytes += characters_as_bytes(token);
    tokens.assign(1, replace_invalid_utf8(bytes));
  };
}

Decoder wordpiece_decoder(std::string prefix, bool cleanup) {
  return [=](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) tokens[i] = tokens[i].starts_with(prefix) ? tokens[i].substr(prefix.size()) : " " + tokens[i];
      if (cleanup) clean_up(tokens[i]);
    }
  };
}

Decoder sentencepiece_decoder(int64_t blanks) {
  return sequence({[](Tokens& tokens) {
                     for (std::string& token : tokens) replace_all(token, kMetaSpace, " ");
                   },
                   join_bytes, fuse, strip(" ", blanks, 0)});
}

Decoder read_decoder(const Fields& fields) { return read_by_type(fields, "decoder", kDecoders); }

}  // namespace surtsey::experiments::text

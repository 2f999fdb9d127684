// config.json and generation_config.json of others: fields, defaults, and what is refused by name.
#include "experiments/models/hub/config.h"
#include "experiments/models/hub/generation.h"
#include "graph/error.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::hub {
namespace {

using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

json llama() {
  return json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2, "vocab_size": 61,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "eos_token_id": [2, 7]})");
}

std::string refusal(const json& object) {
  try {
    parse_config(object, "FILE");
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

std::string refusal(json object, const json& changes) {
  object.update(changes);
  return refusal(object);
}

LlamaConfig llama_with(const json& changes = json::object()) {
  json object = llama();
  object.update(changes);
  return parse_config(object, "FILE").llama();
}

TEST_CASE("hub: a configuration that is written reads back the same", "[hub]") {
  json qwen = llama(), mistral = llama();
  qwen.update({{"model_type", "qwen2"},
               {"architectures", {"Qwen2ForCausalLM"}},
               {"use_sliding_window", true},
               {"sliding_window", 8},
               {"max_window_layers", 1},
               {"tie_word_embeddings", true}});
  mistral.update({{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}, {"sliding_window", 4}});
  std::vector<json> objects = {llama(), qwen, mistral};
  const json ropes[] = {
      {{"rope_type", "linear"}, {"factor", 4}},
      {{"type", "dynamic"}, {"factor", 2.5}},
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"attention_factor", 1.5}, {"beta_fast", 30}, {"mscale", .7}},
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"truncate", false}, {"original_max_position_embeddings", 32}},
      {{"rope_type", "longrope"},
       {"short_factor", {1, 1.5, 2, 3}},
       {"long_factor", {1, 2, 3, 4}},
       {"original_max_position_embeddings", 16}},
      {{"rope_type", "llama3"},
       {"factor", 8.0},
       {"low_freq_factor", 1.0},
       {"high_freq_factor", 4.0},
       {"original_max_position_embeddings", 16}}};
  for (const json& rope : ropes) {
    objects.push_back(llama());
    objects.back()["rope_scaling"] = rope;
  }
  for (const char* text :
       {R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 4, "n_inner": 40, "scale_attn_weights": false,
            "activation_function": "relu", "scale_attn_by_inverse_layer_idx": true})",
        R"({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_act": "gelu_new",
            "id2label": {"0": "no", "1": "yes", "2": "maybe"}})",
        R"({"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false,
            "decoder_start_token_id": 0, "num_decoder_layers": 3})",
        R"({"model_type": "t5", "architectures": ["T5Model"], "feed_forward_proj": "gated-silu"})",
        R"({"model_type": "qwen3", "num_key_value_heads": 8, "rope_theta": 1000000, "attention_bias": true})"}) {
    objects.push_back(json::parse(text));
  }
  for (const json& object : objects) {
    INFO(object.dump());
    Config config = parse_config(object, "FILE");
    Config back = parse_config(config_json(config), "BACK");
    config.architecture = back.architecture;  // named where the file had none
    CHECK(back == config);
  }
}

TEST_CASE("hub: defaults are those of the model's type", "[hub]") {
  CHECK(llama_with().head_dim == 8);
  CHECK(llama_with({{"head_dim", 16}}).head_dim == 16);
  CHECK(llama_with({{"num_key_value_heads", nullptr}}).kv_heads == 4);
  CHECK(llama_with().windows == std::vector<int64_t>{0, 0, 0});
  CHECK_FALSE(llama_with().query_key_value_bias);
  CHECK(llama_with({{"attention_bias", true}}).output_bias);

  const json mistral = {{"model_type", "mistral"}, {"architectures", nullptr}};
  CHECK(llama_with(mistral).windows == std::vector<int64_t>{4096, 4096, 4096});
  json no_window = mistral;
  no_window["sliding_window"] = nullptr;
  CHECK(llama_with(no_window).windows == std::vector<int64_t>{0, 0, 0});

  json qwen2 = {{"model_type", "qwen2"}, {"architectures", nullptr}};
  CHECK(llama_with(qwen2).query_key_value_bias);
  CHECK_FALSE(llama_with(qwen2).output_bias);
  CHECK(llama_with(qwen2).windows == std::vector<int64_t>{0, 0, 0});
  qwen2.update({{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 2}});
  CHECK(llama_with(qwen2).windows == std::vector<int64_t>{0, 0, 8});

  const json qwen3 = {{"model_type", "qwen3"}, {"architectures", nullptr}};
  CHECK(llama_with(qwen3).head_dim == 128);
  CHECK(llama_with(qwen3).query_key_norm);

  const Config t5 = parse_config({{"model_type", "t5"}, {"num_layers", 3}}, "FILE");
  CHECK(t5.tied);
  CHECK(t5.t5().scale_head);
  CHECK(t5.t5().decoder_layers == 3);
  CHECK(t5.t5().activation == Activation::relu);
  const Config v11 =
      parse_config({{"model_type", "t5"}, {"feed_forward_proj", "gated-gelu"}, {"tie_word_embeddings", false}}, "FILE");
  CHECK_FALSE(v11.t5().scale_head);
  CHECK(v11.t5().gated);
  CHECK(v11.t5().activation == Activation::gelu_tanh);

  CHECK(parse_config(llama(), "FILE").tokens.eos == std::vector<int64_t>{2, 7});
  CHECK(parse_config({{"model_type", "bert"}}, "FILE").bert().norm_epsilon == 1e-12);
  CHECK(parse_config({{"model_type", "gpt2"}, {"n_inner", nullptr}}, "FILE").gpt2().hidden == 3072);
}

TEST_CASE("hub: rope parameters of transformers 5 are those of 4", "[hub]") {
  const json scaling = {{"rope_type", "linear"}, {"factor", 4.0}};
  json parameters = scaling;
  parameters["rope_theta"] = 5000.0;
  CHECK(llama_with({{"rope_parameters", parameters}}).rope ==
        llama_with({{"rope_scaling", scaling}, {"rope_theta", 5000}}).rope);
  CHECK(llama_with({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 77.0}}}}).rope.theta == 77);
  CHECK_THAT(refusal(llama(), {{"rope_parameters", parameters}, {"rope_scaling", scaling}}),
             ContainsSubstring("contradict"));
  // Of several kinds of layers.
  CHECK_THAT(refusal(llama(), {{"rope_parameters", {{"full_attention", scaling}}}}),
             ContainsSubstring("full_attention"));
}

TEST_CASE("hub: what is not supported is refused by name", "[hub]") {
  const auto refused = [](const json& changes, const char* what) {
    INFO(changes.dump());
    CHECK_THAT(refusal(llama(), changes), ContainsSubstring("FILE") && ContainsSubstring(what));
  };
  REQUIRE(refusal(llama()) == "accepted");
  refused({{"model_type", "mixtral"}}, "'mixtral' is not supported; there are gpt2, llama, mistral");
  refused({{"architectures", {"LlamaForQuestionAnswering"}}}, "LlamaForQuestionAnswering");
  refused({{"hidden_act", "gelu"}}, "'gelu' is not supported; there are silu");
  refused({{"rope_scaling", {{"rope_type", "mrope"}}}},
          "'mrope' is not supported; there are default, linear, dynamic, yarn, longrope, llama3");
  refused({{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}}}, "low_freq_factor");
  refused({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}}}, "factor");
  refused({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}, {"surprise", 1}}}}, "surprise");
  refused({{"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1}}, {"long_factor", {1}}}}}, "short_factor");
  refused({{"rope_interleaved", true}}, "rope_interleaved");
  refused({{"partial_rotary_factor", .5}}, "partial_rotary_factor");
  refused({{"quantization_config", {{"quant_method", "gptq"}}}}, "gptq");
  refused({{"num_key_value_heads", 3}}, "num_key_value_heads 3");
  refused({{"num_attention_heads", 5}}, "5");
  refused({{"head_dim", 7}}, "7");
  refused({{"hidden_size", "32"}}, "hidden_size");
  refused({{"hidden_size", 32.5}}, "hidden_size");
  refused({{"hidden_size", 0}}, "hidden_size");
  refused({{"hidden_size", 1ull << 63}}, "hidden_size");
  refused({{"num_hidden_layers", 1000000}}, "num_hidden_layers is from 1 to 1000");
  refused({{"layer_types", {"full_attention"}}}, "layer_types");
  refused({{"layer_types", {"full_attention", "sliding_attention", "full_attention"}}}, "layer 1");
  refused({{"tie_word_embeddings", 1}}, "tie_word_embeddings");
  refused({{"eos_token_id", "x"}}, "eos_token_id");

  CHECK_THAT(refusal(json::object()), ContainsSubstring("model_type is missing"));
  CHECK_THAT(refusal(json::array()), ContainsSubstring("not a JSON object"));
  CHECK_THAT(refusal({{"model_type", "bert"}, {"position_embedding_type", "relative_key"}}),
             ContainsSubstring("relative_key"));
  CHECK_THAT(refusal({{"model_type", "bert"}, {"hidden_act", "mish"}}), ContainsSubstring("mish"));
  CHECK_THAT(refusal({{"model_type", "bert"}, {"is_decoder", true}}), ContainsSubstring("is_decoder"));
  CHECK_THAT(refusal({{"model_type", "gpt2"}, {"add_cross_attention", true}}),
             ContainsSubstring("add_cross_attention"));
  CHECK_THAT(refusal({{"model_type", "t5"}, {"feed_forward_proj", "gated-mish"}}), ContainsSubstring("mish"));
  CHECK_THAT(refusal({{"model_type", "t5"}, {"dense_act_fn", "gelu_new"}}), ContainsSubstring("contradicts"));
  CHECK_THAT(refusal({{"model_type", "t5"}, {"relative_attention_max_distance", 16}}), ContainsSubstring("exact"));
  CHECK_THROWS_WITH(parse_config_text(std::string(100, '[') + std::string(100, ']'), "FILE"),
                    ContainsSubstring("nested"));
  CHECK_THROWS_WITH(parse_config_text(R"({"model_type": "t5", "model_type": "bert"})", "FILE"),
                    ContainsSubstring("twice"));
}

TEST_CASE("hub: generation_config.json, its names and its defaults", "[hub]") {
  const SpecialTokens defaults{1, {2}, 3, 4};
  const GenerationConfig plain = parse_generation(json::object(), "FILE", defaults);
  CHECK(plain.tokens == defaults);
  CHECK(plain.top_k == 50);
  CHECK(plain.max_length == 20);
  CHECK_FALSE(plain.do_sample);

  const json object = json::parse(R"({
    "max_new_tokens": 9, "min_new_tokens": 2, "max_length": 30, "min_length": 1, "do_sample": true, "temperature": 0.7,
    "top_k": 0, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2,
    "num_beams": 4, "num_return_sequences": 2, "length_penalty": -0.5, "early_stopping": "never",
    "bos_token_id": 5, "eos_token_id": [6, 7], "pad_token_id": 8, "decoder_start_token_id": 9,
    "stop_strings": ["a", "b"], "forced_bos_token_id": 10, "forced_eos_token_id": 11, "suppress_tokens": [12, 13],
    "begin_suppress_tokens": [14], "bad_words_ids": [[15], [16, 17]]})");
  const GenerationConfig all = parse_generation(object, "FILE", defaults);
  CHECK(all.max_new_tokens == 9);
  CHECK(all.min_p == .05);
  CHECK(all.early_stopping == GenerationConfig::EarlyStopping::never);
  CHECK(all.tokens == SpecialTokens{5, {6, 7}, 8, 9});
  CHECK(all.forced_eos_token_id == std::vector<int64_t>{11});
  CHECK(all.bad_words_ids == std::vector<std::vector<int64_t>>{{15}, {16, 17}});
  CHECK(all.stop_strings == std::vector<std::string>{"a", "b"});
  CHECK(parse_generation(generation_json(all), "BACK", {}) == all);
  CHECK(generation_json(plain).size() == 4);  // the tokens

  const auto refused = [&](const json& changes) {
    CHECK_THROWS_WITH(parse_generation(changes, "FILE", {}), ContainsSubstring(changes.begin().key()));
  };
  for (const json& changes : std::initializer_list<json>{{{"top_p", 1.5}},
                                                         {{"temperature", -1}},
                                                         {{"num_beams", 0}},
                                                         {{"top_k", 1.5}},
                                                         {{"early_stopping", 3}},
                                                         {{"penalty_alpha", .6}},
                                                         {{"num_beam_groups", 2}},
                                                         {{"eos_token_id", -7}},
                                                         {{"bad_words_ids", {1}}},
                                                         {{"repetition_penalty", 0}}}) {
    refused(changes);
  }
}

}  // namespace
}  // namespace surtsey::experiments::hub

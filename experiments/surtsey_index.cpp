// `surtsey index ..`, and `--retrieve` of other commands: their part of the command line.
#include "experiments/command_line.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kFoundByHelp = "bm25, dense, fused or automatic (fused where there are vectors)";

}  // namespace

void CommandLineParts::add_retrieve(CLI::App* command, commands::RetrieveFlags& flags) {
  command->add_option("--retrieve", flags.index, "an index whose passages are put before prompts");
  add_range(command, "--retrieve_top", flags.top, 1, 1024, "so many passages, as far as there is room");
  command->add_option("--retrieve_by", flags.by, kFoundByHelp)->capture_default_str();
  command->add_option("--retrieve_template", flags.template_file, "a file, Jinja of passages and prompt");
  command->add_option("--retrieve_model", flags.model, "where the model of the index is now, if it was moved");
}

void CommandLineParts::add_index() {
  CLI::App* index = app_.add_subcommand("index", "texts in a file that is asked by words and by vectors");
  index->require_subcommand(1);
  const auto of_all = [](CLI::App* command, auto& options) {
    command->add_option("-o", options.format, "text or json")->capture_default_str();
    command->add_option("--device", options.device, "index, name or UUID");
  };
  const char* moved = "where the model of the index is now, if it was moved";

  auto build = keep<commands::IndexBuildOptions>();
  CLI::App* command = index->add_subcommand("build", "make an index, or put another in its place");
  command->add_option("--out", build->out, "the index, a file")->required();
  command->add_option("--data", build->data, "rows of id, text and title (.jsonl), or a folder of texts")->required();
  command->add_option("--model", build->model, "an encoder or a decoder that makes vectors; none: words alone");
  command->add_option("--words", build->words, "unicode61, porter (English word stems) or trigram")
      ->capture_default_str();
  add_range(command, "--passage_tokens", build->passage_tokens, 0, 1 << 24, "0: what the encoder reads, at most 512");
  add_range(command, "--overlap", build->overlap, 0, 1 << 24, "tokens that neighbouring passages share");
  command->add_option("--passage_prefix", build->passage_prefix, "before passages that are embedded")->check(utf8());
  command->add_option("--query_prefix", build->query_prefix, "before queries that are embedded")->check(utf8());
  of_all(command, *build);
  on(command, build, commands::index_build);

  auto added = keep<commands::IndexChangeOptions>();
  command = index->add_subcommand("add", "put documents in, in place of those of their ids");
  command->add_option("INDEX", added->index, "made by index build")->required();
  command->add_option("--data", added->data, "as for build")->required();
  command->add_option("--model", added->model, moved);
  of_all(command, *added);
  on(command, added, commands::index_add);

  auto deleted = keep<commands::IndexChangeOptions>();
  command = index->add_subcommand("delete", "take documents out");
  command->add_option("INDEX", deleted->index, "made by index build")->required();
  command->add_option("--id", deleted->ids, "of a document; several times")->required();
  of_all(command, *deleted);
  on(command, deleted, commands::index_delete);

  auto info = keep<commands::IndexChangeOptions>();
  command = index->add_subcommand("info", "what an index holds and how it was made");
  command->add_option("INDEX", info->index, "made by index build")->required();
  of_all(command, *info);
  on(command, info, commands::index_info);

  auto query = keep<commands::IndexQueryOptions>();
  command = index->add_subcommand("query", "ask an index");
  command->add_option("INDEX", query->index, "made by index build")->required();
  command->add_option("--text", query->text, "what is asked")->check(utf8());
  command->add_option("--queries", query->queries, "instead: a file, one a line");
  add_range(command, "--top", query->top, 1, 100000, "passages that are found");
  command->add_option("--by", query->by, kFoundByHelp)->capture_default_str();
  command->add_option("--model", query->model, moved);
  of_all(command, *query);
  on(command, query, commands::index_query);
}

}  // namespace surtsey::experiments

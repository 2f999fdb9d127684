// Figures of a study from its cells: points that fall together are averaged, lines come in the order of their first
// point. Models that diverged, and what is no number, are left out: the page names those models.
//
//   Curves curves("Accuracy against depth", "Means over seeds.", {"layers"}, {"share of right answers"});
//   curves.add("cot", cells("sums", "cot").of(result), &Cell::n_layer, exact_match("cot"));
//   return curves.figure();
#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/study/rules.h"

namespace surtsey::experiments {

class Curves {
 public:
  // How a line looks; `spread` draws 95% t intervals of its means.
  struct Look {
    bool marks = true, joined = true, dashed = false;
    bool spread = false;
  };

  // Its title, one sentence on how to read it, its axes, and horizontal lines.
  Curves(std::string title, std::string note, FigureAxis x, FigureAxis y,
         std::vector<std::pair<std::string, double>> references = {})
      : figure_{std::move(title), std::move(note), std::move(x), std::move(y), {}, std::move(references)} {}

  // Declares a line, so that it stands in this place and looks so.
  void line(const std::string& name, Look look);
  void add(const std::string& line, double x, double y);
  // Of every model: a member such as &Cell::parameters, or a function; or the same place for all.
  void add(const std::string& line, const Cells& cells, const std::function<double(const Cell&)>& x, const Score& y);
  void add(const std::string& line, const Cells& cells, double x, const Score& y);
  // A point with its own interval, averaged with no other.
  void add(const std::string& line, FigurePoint point);
  // A horizontal line.
  void reference(const std::string& name, double y);

  // Lines without points are left out. Points of a line rise in x.
  Figure figure() const;

 private:
  struct Line {
    std::string name;
    Look look;
    std::map<double, std::vector<double>> values;
    std::map<double, FigurePoint> points;
  };
  Line& find(const std::string& name);

  Figure figure_;
  std::vector<Line> lines_;
};

}  // namespace surtsey::experiments

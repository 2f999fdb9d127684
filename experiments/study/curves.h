// Figures of a study from its cells: points that fall together are averaged, lines come in the order of their first
// point.
//
//   Curves curves({"Accuracy against depth", "Means over seeds.", {"layers"}, {"share of right answers"}, {}});
//   for (const Cell* cell : cells("sums", "cot").of(result)) curves.add("cot", cell->n_layer, score.value(*cell));
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

  explicit Curves(Figure frame) : figure_(std::move(frame)) {}

  // Declares a line, so that it stands in this place and looks so.
  void line(const std::string& name, Look look);
  void add(const std::string& line, double x, double y);
  // A point with its own interval, averaged with no other.
  void add(const std::string& line, FigurePoint point);
  // A horizontal line.
  void reference(const std::string& name, double y) { figure_.references.emplace_back(name, y); }

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

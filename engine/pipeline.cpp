#include "engine/pipeline.h"

#include "shaders/parallel.h"
#include "shaders/reflect.h"

#include <chrono>

namespace surtsey::engine {
namespace {

std::string key(const shaders::Shader& shader) {
  return fmt::format("{}|{}|{}", shader.bindings, shader.subgroup_size, shader.glsl);
}

}  // namespace

std::vector<std::shared_ptr<const Pipeline>> PipelineStore::get(std::span<const shaders::Shader> shaders,
                                                                std::span<const shaders::Spirv> spirv,
                                                                std::vector<bool>* made_here) {
  ensure(shaders.size() == spirv.size(), "{} shaders and {} modules", shaders.size(), spirv.size());
  std::vector<std::string> keys;
  std::vector<size_t> missing;
  for (size_t i = 0; i < shaders.size(); ++i) {
    keys.push_back(key(shaders[i]));
    if (store_.try_emplace(keys[i]).second) missing.push_back(i);
  }
  std::vector<std::shared_ptr<const Pipeline>> made(missing.size());
  try {
    shaders::parallel_for(missing.size(), [&](size_t i) { made[i] = create(shaders[missing[i]], spirv[missing[i]]); });
  } catch (...) {
    for (size_t i : missing) store_.erase(keys[i]);
    throw;
  }
  if (made_here) {
    made_here->assign(shaders.size(), false);
    for (size_t i : missing) (*made_here)[i] = true;
  }
  for (size_t i = 0; i < missing.size(); ++i) store_[keys[missing[i]]] = std::move(made[i]);
  if (!missing.empty()) cache_.save();
  std::vector<std::shared_ptr<const Pipeline>> result;
  for (const std::string& k : keys) result.push_back(store_.at(k));
  return result;
}

std::shared_ptr<const Pipeline> PipelineStore::create(const shaders::Shader& shader, const shaders::Spirv& spirv) {
  bool address_mode = target_.addressing == graph::Addressing::address;
  shaders::check_reflection(shader, shaders::reflect(spirv), address_mode);
  auto result = std::make_shared<Pipeline>();
  result->bindings = shader.bindings;
  const DriverName& who = context_.who;

  vk::PushConstantRange constants{
      .stageFlags = vk::ShaderStageFlagBits::eCompute,
      .offset = 0,
      .size = address_mode ? shaders::kAddressArgumentBytes : shaders::kDescriptorArgumentBytes};
  vk::PipelineLayoutCreateInfo layout{.pushConstantRangeCount = 1, .pPushConstantRanges = &constants};
  if (!address_mode) {
    std::vector<vk::DescriptorSetLayoutBinding> bindings;
    for (uint32_t i = 0; i < shader.bindings; ++i)
      bindings.push_back({.binding = i,
                          .descriptorType = vk::DescriptorType::eStorageBuffer,
                          .descriptorCount = 1,
                          .stageFlags = vk::ShaderStageFlagBits::eCompute});
    vk::DescriptorSetLayoutCreateInfo info;
    info.setBindings(bindings);
    result->descriptors = vk_check("vkCreateDescriptorSetLayout", who,
                                   [&] { return vk::raii::DescriptorSetLayout(context_.device, info); });
    layout.setLayoutCount = 1;
    layout.pSetLayouts = &*result->descriptors;
  }
  result->layout =
      vk_check("vkCreatePipelineLayout", who, [&] { return vk::raii::PipelineLayout(context_.device, layout); });

  vk::ShaderModuleCreateInfo module_info;
  module_info.setCode(spirv);
  auto module =
      vk_check("vkCreateShaderModule", who, [&] { return vk::raii::ShaderModule(context_.device, module_info); });
  vk::PipelineShaderStageCreateInfo stage{
      .stage = vk::ShaderStageFlagBits::eCompute, .module = *module, .pName = "main"};
  vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo required{.requiredSubgroupSize = shader.subgroup_size};
  const auto& sizes = context_.capabilities.subgroup_size;
  if (shader.subgroup_size != 0) {
    bool only_one = sizes.minSubgroupSize == sizes.maxSubgroupSize;
    if (context_.subgroup_size_control) {
      stage.pNext = &required;
      if (shader.local_size % shader.subgroup_size == 0)
        stage.flags = vk::PipelineShaderStageCreateFlagBits::eRequireFullSubgroups;
    }
    ensure(
        context_.capabilities.fixed_subgroup_size(shader.subgroup_size) && (only_one || context_.subgroup_size_control),
        "kernel {} needs subgroups of {}, which this device cannot promise", shader.name, shader.subgroup_size);
  }
  vk::PipelineCreationFeedback feedback, stage_feedback;
  vk::PipelineCreationFeedbackCreateInfo feedback_info{.pPipelineCreationFeedback = &feedback,
                                                       .pipelineStageCreationFeedbackCount = 1,
                                                       .pPipelineStageCreationFeedbacks = &stage_feedback};
  vk::ComputePipelineCreateInfo info{
      .pNext = context_.creation_feedback ? &feedback_info : nullptr, .stage = stage, .layout = *result->layout};
  if (capture_)
    info.flags = vk::PipelineCreateFlagBits::eCaptureStatisticsKHR |
                 vk::PipelineCreateFlagBits::eCaptureInternalRepresentationsKHR;
  const auto start = std::chrono::steady_clock::now();
  result->handle = vk_check(
      "vkCreateComputePipelines", who, [&] { return vk::raii::Pipeline(context_.device, cache_.handle(), info); },
      fmt::format("kernel {}", shader.name));
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
  result->create_ms = taken.count();
  using Flag = vk::PipelineCreationFeedbackFlagBits;
  result->from_cache = (feedback.flags & Flag::eValid) && (feedback.flags & Flag::eApplicationPipelineCacheHit);
  context_.name(result->handle, [&] { return shader.name; });
  if (capture_) result->statistics = query_statistics(context_, *result);
  return result;
}

}  // namespace surtsey::engine

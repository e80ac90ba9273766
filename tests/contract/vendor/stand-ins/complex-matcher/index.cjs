'use strict'

// The published 0.7, brought to what 1.x does: a comparison takes any value, as JavaScript compares it.
// The list is written out, for names that are computed cannot be imported from a module.

const published = require('complex-matcher-0')

published.Comparison.prototype.match = function (value) {
  return this._comparator(value, this._value)
}

exports.parse = published.parse
exports.setPropertyClause = published.setPropertyClause
exports.getPropertyClausesStrings = published.getPropertyClausesStrings
exports.And = published.And
exports.Comparison = published.Comparison
exports.GlobPattern = published.GlobPattern
exports.Not = published.Not
exports.Null = published.Null
exports.Number = published.Number
exports.NumberOrString = published.NumberOrString
exports.Or = published.Or
exports.Property = published.Property
exports.RegExp = published.RegExp
exports.String = published.String
exports.TruthyProperty = published.TruthyProperty
